//go:build cgo && unix

package backend

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
*/
import "C"

import "unsafe"

// preload loads a library that others will look for by its name. Where it cannot, they will say so.
func preload(path string) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	C.dlopen(name, C.RTLD_LAZY|C.RTLD_GLOBAL)
}
