// Package hub fetches data sets from a Hugging Face hub, as plain files: hf://datasets/OWNER/NAME[@REVISION][/FOLDER].
//
// A revision is pinned: what "main" meant when a data set was first fetched is what it means until its folder is removed. Files are
// fetched with resumption, retried when the hub is busy or broken, and checked against the size and, where the hub tells it,
// the SHA-256. (github.com/gomlx/go-huggingface, which reads models elsewhere, begins every download anew and retries none.)
package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

// Scheme begins the path of a data set of the hub.
const Scheme = "hf://"

// defaultEndpoint is the public hub. HF_ENDPOINT in the environment names another one, as for Hugging Face's own programs.
const defaultEndpoint = "https://huggingface.co"

// Client talks to a hub. The zero value takes everything from the environment.
type Client struct {
	// Endpoint of the hub. "": HF_ENDPOINT, or the public one.
	Endpoint string
	// Token for private and gated data sets. "": HF_TOKEN.
	Token string
	// Tries is how often a request is sent before it is given up. 0: 6, with pauses of 1, 2, 4, 8 and 16 seconds, or what the hub asks for.
	Tries int
	// Pause before the second try. 0: a second.
	Pause time.Duration
}

// Dataset is what a path names.
type Dataset struct {
	ID       string // OWNER/NAME
	Revision string // a branch, tag or commit; "main" if none is given
	Folder   string // within it, "" for all
}

var form = regexp.MustCompile(`^hf://datasets/([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?(?:/(.+))?$`)

// Parse reads a path. Revisions with a slash cannot be given together with a folder.
func Parse(p string) (Dataset, error) {
	m := form.FindStringSubmatch(p)
	if m == nil {
		return Dataset{}, fmt.Errorf("%s: want hf://datasets/OWNER/NAME, and if need be @REVISION and /FOLDER after it", p)
	}
	d := Dataset{ID: m[1], Revision: m[2], Folder: strings.Trim(m[3], "/")}
	if d.Revision == "" {
		d.Revision = "main"
	}
	return d, nil
}

// entry is a file of a data set, as the hub lists it.
type entry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	LFS  *struct {
		OID string `json:"oid"` // SHA-256
	} `json:"lfs"`
}

// Fetch makes sure that the files of a data set are in dir, those only that want accepts, and returns the folder they are in, which
// is named for the commit. progress, if not nil, is told of each file.
func (c Client) Fetch(ctx context.Context, d Dataset, dir string, want func(path string) bool, progress func(path string, size int64)) (string, error) {
	c.defaults()
	root := filepath.Join(dir, "datasets--"+strings.ReplaceAll(d.ID, "/", "--"))
	commit, err := c.pin(ctx, d, root)
	if err != nil {
		return "", fmt.Errorf("fetch %s%s: %w", Scheme, d.ID, err)
	}
	files, err := c.list(ctx, d, commit, root)
	if err != nil {
		return "", fmt.Errorf("fetch %s%s@%s: %w", Scheme, d.ID, commit, err)
	}
	out := filepath.Join(root, commit)
	found := false
	for _, f := range files {
		if f.Type != "file" || !filepath.IsLocal(filepath.FromSlash(f.Path)) || !within(f.Path, d.Folder) || !want(f.Path) {
			continue
		}
		found = true
		target := filepath.Join(out, filepath.FromSlash(f.Path))
		if info, err := os.Stat(target); err == nil && info.Size() == f.Size {
			continue
		}
		source := fmt.Sprintf("%s/datasets/%s/resolve/%s/%s", c.Endpoint, d.ID, commit, escape(f.Path))
		if err := c.download(ctx, source, target, f); err != nil {
			return "", fmt.Errorf("fetch %s of %s%s: %w", f.Path, Scheme, d.ID, err)
		}
		if progress != nil {
			progress(f.Path, f.Size)
		}
	}
	if !found {
		return "", fmt.Errorf("fetch %s%s@%s: %w: none of its %d files is wanted", Scheme, d.ID, commit, fs.ErrNotExist, len(files))
	}
	return filepath.Join(out, filepath.FromSlash(d.Folder)), nil
}

func (c *Client) defaults() {
	if c.Endpoint == "" {
		c.Endpoint = os.Getenv("HF_ENDPOINT")
	}
	if c.Endpoint == "" {
		c.Endpoint = defaultEndpoint
	}
	c.Endpoint = strings.TrimRight(c.Endpoint, "/")
	if c.Token == "" {
		c.Token = os.Getenv("HF_TOKEN")
	}
	if c.Tries == 0 {
		c.Tries = 6
	}
	if c.Pause == 0 {
		c.Pause = time.Second
	}
}

func within(p, folder string) bool {
	return folder == "" || p == folder || strings.HasPrefix(p, folder+"/")
}

func escape(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return path.Join(parts...)
}

var commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

// pin is the commit of a revision: the one it had before, or the hub's answer, which is written down.
func (c Client) pin(ctx context.Context, d Dataset, root string) (string, error) {
	if commitForm.MatchString(d.Revision) {
		return d.Revision, nil
	}
	file := filepath.Join(root, "refs", url.PathEscape(d.Revision))
	if b, err := os.ReadFile(file); err == nil && commitForm.Match(b) {
		return string(b), nil
	}
	var info struct {
		SHA string `json:"sha"`
	}
	if err := c.json(ctx, fmt.Sprintf("%s/api/datasets/%s/revision/%s", c.Endpoint, d.ID, url.PathEscape(d.Revision)), &info); err != nil {
		return "", err
	}
	if !commitForm.MatchString(info.SHA) {
		return "", fmt.Errorf("the hub says that revision %s is commit %q", d.Revision, info.SHA)
	}
	return info.SHA, write(file, []byte(info.SHA))
}

// list is the files of a commit, which never change, so the list is kept.
func (c Client) list(ctx context.Context, d Dataset, commit, root string) ([]entry, error) {
	file := filepath.Join(root, "lists", commit+".json")
	var all []entry
	if b, err := os.ReadFile(file); err == nil && json.Unmarshal(b, &all) == nil {
		return all, nil
	}
	next := fmt.Sprintf("%s/api/datasets/%s/tree/%s?recursive=true", c.Endpoint, d.ID, commit)
	for next != "" {
		var part []entry
		header, err := c.get(ctx, next, func(r *http.Response) error { return json.NewDecoder(r.Body).Decode(&part) })
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
		next = nextPage(header.Get("Link"))
	}
	b, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return all, write(file, b)
}

var link = regexp.MustCompile(`<([^>]+)>;\s*rel="next"`)

func nextPage(header string) string {
	if m := link.FindStringSubmatch(header); m != nil {
		return m[1]
	}
	return ""
}

func (c Client) json(ctx context.Context, url string, v any) error {
	_, err := c.get(ctx, url, func(r *http.Response) error { return json.NewDecoder(r.Body).Decode(v) })
	return err
}

func write(file string, b []byte) error {
	if err := vfs.MkdirAllSync(vfs.OS, filepath.Dir(file)); err != nil {
		return err
	}
	return atomicfile.Write(vfs.OS, file, b)
}

// ErrDenied is in the chain of an error of a data set that needs a token, or another one.
var ErrDenied = errors.New("access denied: set HF_TOKEN to a token that may read it, and accept the terms of a gated data set on its page")
