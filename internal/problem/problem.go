// Package problem is how every Config reports what is wrong with it: all problems at once, each with its key, the value
// given and what would be right. The configs package adds file and line.
package problem

import (
	"errors"
	"fmt"
)

// Problem is one thing wrong with a configuration value. Key is the path below the section that reports it ("d_model");
// Want says what would be right.
type Problem struct{ Key, Value, Want string }

func (p Problem) Error() string { return fmt.Sprintf("%s: %s: want %s", p.Key, p.Value, p.Want) }

// List collects problems. The zero value is ready.
type List struct{ errs []error }

// Check adds a problem unless ok. want is a format for args.
func (l *List) Check(ok bool, key string, value any, want string, args ...any) {
	if !ok {
		l.errs = append(l.errs, Problem{key, fmt.Sprint(value), fmt.Sprintf(want, args...)})
	}
}

// Err joins the problems into one error, nil if there is none. [errors.As] and Unwrap() []error reach each [Problem].
func (l *List) Err() error { return errors.Join(l.errs...) }

// Section adds what the Validate of the section called key returned, its keys below that one.
func (l *List) Section(key string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			l.Section(key, e)
		}
		return
	}
	var p Problem
	switch {
	case errors.As(err, &p):
		if p.Key != "" {
			key += "." + p.Key
		}
		l.errs = append(l.errs, Problem{key, p.Value, p.Want})
	case err != nil:
		l.errs = append(l.errs, Problem{Key: key, Want: err.Error()})
	}
}
