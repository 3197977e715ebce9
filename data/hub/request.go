package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"pretrain/internal/vfs"
)

// errStatus is an answer other than success.
type errStatus struct {
	code int
	text string
}

func (e *errStatus) Error() string { return "the hub answers " + e.text }

// temporary reports whether it may go better later.
func (e *errStatus) temporary() bool {
	return e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout || e.code >= 500
}

// get asks for a URL, several times if need be, and hands the answer to use.
func (c Client) get(ctx context.Context, url string, use func(*http.Response) error) (header http.Header, err error) {
	err = c.retry(ctx, func() (wait time.Duration, err error) {
		r, wait, err := c.request(ctx, url, 0)
		if err != nil {
			return wait, err
		}
		defer r.Body.Close()
		header = r.Header
		return 0, use(r)
	})
	return header, err
}

// retry calls try until it succeeds, the error is one that stays, or the tries are used up. try may say how long to wait.
func (c Client) retry(ctx context.Context, try func() (time.Duration, error)) error {
	pause := c.Pause
	for n := 1; ; n++ {
		wait, err := try()
		status := (*errStatus)(nil)
		if err == nil || ctx.Err() != nil || errors.As(err, &status) && !status.temporary() || errors.Is(err, errFinal) {
			return err
		}
		if n == c.Tries {
			return fmt.Errorf("given up after %d tries: %w", n, err)
		}
		if wait == 0 {
			wait = pause
			pause *= 2
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// errFinal is in the chain of an error that another try will not mend.
var errFinal = errors.New("not tried again")

// maxWait bounds how long a hub may ask to be left alone.
const maxWait = 5 * time.Minute

// request sends one request for what follows the first from bytes. It also returns how long the hub asks to wait.
func (c Client) request(ctx context.Context, url string, from int64) (*http.Response, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errFinal, err)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token) // net/http drops it where a redirect leads to another host
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	if r.StatusCode == http.StatusOK || from > 0 && r.StatusCode == http.StatusPartialContent {
		return r, 0, nil
	}
	defer r.Body.Close()
	status := &errStatus{r.StatusCode, r.Status}
	if r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden {
		return nil, 0, fmt.Errorf("%w: %w", status, ErrDenied)
	}
	seconds, _ := strconv.Atoi(r.Header.Get("Retry-After"))
	return nil, min(maxWait, time.Duration(seconds)*time.Second), status
}

// download fetches a file under a temporary name, going on where an earlier download stopped, and gives it its name when it is
// whole and right.
func (c Client) download(ctx context.Context, url, target string, f entry) error {
	if err := vfs.MkdirAllSync(vfs.OS, filepath.Dir(target)); err != nil {
		return err
	}
	part := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".part")
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	err = c.retry(ctx, func() (time.Duration, error) { return c.resume(ctx, url, out, f.Size) })
	if err != nil {
		return err
	}
	if err := check(out, f); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(part, target); err != nil {
		return err
	}
	return vfs.OS.SyncDir(filepath.Dir(target))
}

// resume fetches what out lacks.
func (c Client) resume(ctx context.Context, url string, out *os.File, size int64) (time.Duration, error) {
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errFinal, err)
	}
	if have == size {
		return 0, nil
	}
	if have > size { // a server has nothing to send from there
		if have, err = 0, empty(out); err != nil {
			return 0, err
		}
	}
	r, wait, err := c.request(ctx, url, have)
	if err != nil {
		return wait, err
	}
	defer r.Body.Close()
	if have > 0 && r.StatusCode == http.StatusOK { // the server sends the whole again
		if have, err = 0, empty(out); err != nil {
			return 0, err
		}
	}
	n, err := io.Copy(out, io.LimitReader(r.Body, size-have+1))
	if err == nil && have+n != size {
		err = fmt.Errorf("%d bytes came, want %d", have+n, size)
	}
	return 0, err
}

// empty makes an open file start anew.
func empty(out *os.File) error {
	_, err := out.Seek(0, io.SeekStart)
	if err = errors.Join(err, out.Truncate(0)); err != nil {
		return fmt.Errorf("%w: %w", errFinal, err)
	}
	return nil
}

// check compares a file with what the hub says of it.
func check(out *os.File, f entry) error {
	if f.LFS == nil {
		return nil // its size is right, or resume had failed
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, out); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != f.LFS.OID {
		return fmt.Errorf("its SHA-256 is %s, and the hub says %s", sum, f.LFS.OID)
	}
	return nil
}
