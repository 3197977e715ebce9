package plugin

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cudaBundle is a CUDA plugin with the NVIDIA libraries it loads. The plugin is pinned by digest; the libraries, which
// NVIDIA publishes and which weigh gigabytes, by the version ranges that the jax-cuda*-plugin wheel of the same
// release asks for, closed below the next major version (the ABI that the plugin links against).
type cudaBundle struct {
	wheel     wheel
	libraries []string // pip requirements
	space     int64    // bytes to have free before starting
}

// cudaSpace is room for the wheels and their unpacked contents: an estimate, not measured.
const cudaSpace = 10 << 30

var cuda13 = cudaBundle{
	wheel: wheel{
		kind:         CUDA13,
		pkg:          "jax-cuda13-pjrt",
		version:      "0.11.2",
		sha256:       "e5ff589d43064913bb74027682d89639c7ea48f9f81c2bae6fc75117e913f93e",
		member:       cudaMember(CUDA13),
		memberSHA256: "43d3efd6fd43d8a5d9aa67176e830d81e4ad5fc19fda4ad09cdcc4aebd9f3920",
		memberSize:   411_465_856,
	},
	libraries: []string{
		"nvidia-cublas>=13.0.0.19,<14", "nvidia-cuda-cupti>=13.0.48,<14", "nvidia-cuda-nvcc>=13.0.48,<14",
		"nvidia-cuda-nvrtc>=13.0.48,<14", "nvidia-cuda-runtime>=13.0.48,<14", "nvidia-cudnn-cu13>=9.12.0.46,<10",
		"nvidia-cufft>=12.0.0.15,<13", "nvidia-cusolver>=12.0.3.29,<13", "nvidia-cusparse>=12.6.2.49,<13",
		"nvidia-nccl-cu13>=2.27.7,<3", "nvidia-nvjitlink>=13.0.39,<14", "nvidia-nvshmem-cu13>=3.3.20,<4",
		"nvidia-nvvm>=13,<14",
	},
	space: cudaSpace,
}

var cuda12 = cudaBundle{
	wheel: wheel{
		kind:         CUDA12,
		pkg:          "jax-cuda12-pjrt",
		version:      "0.11.2",
		sha256:       "2133b3afc63307c016ae4980f166b2b3de199759363ead74f7d550eaae953463",
		member:       cudaMember(CUDA12),
		memberSHA256: "ed4d60d77427548709ca0b5a8e04c1b24cc0091452bb564e4aea01e03ae7eac1",
		memberSize:   497_519_016,
	},
	libraries: []string{
		"nvidia-cublas-cu12>=12.1.3.1,<13", "nvidia-cuda-cupti-cu12>=12.1.105,<13", "nvidia-cuda-nvcc-cu12>=12.6.85,<13",
		"nvidia-cuda-nvrtc-cu12>=12.1.55,<13", "nvidia-cuda-runtime-cu12>=12.1.105,<13", "nvidia-cudnn-cu12>=9.10.2.21,<10",
		"nvidia-cufft-cu12>=11.0.2.54,<12", "nvidia-cusolver-cu12>=11.4.5.107,<12", "nvidia-cusparse-cu12>=12.1.0.106,<13",
		"nvidia-nccl-cu12>=2.18.1,<3", "nvidia-nvjitlink-cu12>=12.1.105,<13", "nvidia-nvshmem-cu12>=3.2.5,<4",
	},
	space: cudaSpace,
}

// cudaMember is the plugin's path in the wheel, and so under site-packages. The library's RPATH looks for NVIDIA's
// two levels up, in site-packages/nvidia, so the layout of pip has to be kept.
func cudaMember(kind Kind) string { return "jax_plugins/xla_" + string(kind) + "/xla_cuda_plugin.so" }

func (b cudaBundle) source() source {
	name := fmt.Sprintf("the wheels %s %s and NVIDIA's libraries (several GB)", b.wheel.pkg, b.wheel.version)
	return source{name, 2 * time.Hour, b.install}
}

// install lays the plugin and its libraries out as pip does, in the folder dir/KIND: whole or not at all.
func (b cudaBundle) install(ctx context.Context, dir string, out io.Writer) error {
	if free, err := FreeSpace(dir); err == nil && free < b.space {
		return fmt.Errorf("%s has %.1f GiB free, %d GiB are needed: free some space, or set HOME to a larger disk", dir, float64(free)/(1<<30), b.space>>30)
	}
	tmp, err := makeTemp(dir, b.wheel.kind)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	path, err := b.wheel.download(ctx, tmp, out)
	if err != nil {
		return err
	}
	site := filepath.Join(tmp, "site-packages")
	fmt.Fprintf(out, "  python3 -m pip install --target … %s\n", strings.Join(b.libraries, " "))
	args := []string{"install", "--only-binary=:all:", "--no-warn-conflicts", "--no-compile", "--target", site, path}
	if err := pip(ctx, tmp, append(args, b.libraries...)...); err != nil {
		return err
	}
	if err := checkSHA256(filepath.Join(site, b.wheel.member), b.wheel.memberSHA256); err != nil {
		return err
	}
	return publish(site, filepath.Join(dir, string(b.wheel.kind)))
}
