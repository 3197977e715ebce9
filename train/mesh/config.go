package mesh

import (
	"fmt"

	"pretrain/internal/problem"
)

// Config is the number of devices along each axis of the grid; -1, for one axis, is what is left of the devices there are.
type Config struct {
	// Data is the number of copies of the model, each trained on its part of the batch. Default 1.
	Data int `yaml:"data" json:"data"`
	// FSDP is the number of devices that share one copy's weights and optimizer state, each trained on its part of the
	// batch. Default 1. The first to raise: memory falls by it and it says the least that must be said.
	FSDP int `yaml:"fsdp" json:"fsdp"`
	// Tensor is the number of devices that share each matrix product. Default 1. For models that even cut along fsdp do not
	// fit, or whose batch has too few sequences: the devices talk in every layer.
	Tensor int `yaml:"tensor" json:"tensor"`
}

// Default is one device.
func Default() Config { return Config{Data: 1, FSDP: 1, Tensor: 1} }

// Check adds what is wrong to p, with keys below section.
func (c Config) Check(p *problem.List, section string) {
	rest := 0
	for _, a := range []struct {
		key  string
		size int
	}{{"data", c.Data}, {"fsdp", c.FSDP}, {"tensor", c.Tensor}} {
		p.Check(a.size == -1 || a.size >= 1, section+"."+a.key, a.size, "a number of devices, or -1: what is left")
		if a.size == -1 {
			rest++
			p.Check(rest <= 1, section+"."+a.key, a.size, "a number of devices: another axis takes what is left already")
		}
	}
}

// Resolve puts a number in the place of -1, for so many devices. A grid may leave devices unused.
func (c Config) Resolve(devices int) (Config, error) {
	var p problem.List
	if c.Check(&p, "train.mesh"); p.Err() != nil {
		return c, p.Err()
	}
	given := 1
	var rest *int
	for _, size := range []*int{&c.Data, &c.FSDP, &c.Tensor} {
		if *size == -1 {
			rest = size
		} else {
			given *= *size
		}
	}
	if rest != nil {
		*rest = devices / given
		if *rest < 1 || devices%given != 0 {
			return c, fmt.Errorf("train.mesh: %d devices do not come out even over %d: give sizes that divide them", devices, given)
		}
		return c, nil
	}
	if given > devices {
		return c, fmt.Errorf("train.mesh %s: %d devices are asked for and there are %d: lower it (on a CPU, --backend cpu,devices=%d makes virtual ones)", c, given, devices, given)
	}
	return c, nil
}

// String is "data 1, fsdp 4, tensor 2".
func (c Config) String() string {
	return fmt.Sprintf("data %d, fsdp %d, tensor %d", c.Data, c.FSDP, c.Tensor)
}
