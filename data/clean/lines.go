package clean

import "strings"

// maxBoilerplate is the longest line, in bytes, that can be boilerplate.
const maxBoilerplate = 120

// boilerplate are whole lines, in lower case. Longer than "home": a word by itself may be a line of a poem.
var boilerplate = set(`
skip to content|skip to main content|skip to navigation|jump to content|jump to navigation|toggle navigation|back to top|return to top|scroll to top|
share this|share this:|share this article|share this post|share on facebook|share on twitter|share on linkedin|tweet this|pin it|email this|print this page|print this article|
read more|read more...|read more »|continue reading|continue reading →|click here|click here to read more|learn more|see more|show more|load more|view all|
sign in|sign up|log in|log out|login / register|register now|subscribe now|subscribe to our newsletter|sign up for our newsletter|join our mailing list|
leave a comment|leave a reply|post a comment|add a comment|be the first to comment|comments are closed.|reply|report abuse|like this:|loading...|
previous post|next post|previous article|next article|older posts|newer posts|related posts|related articles|you may also like|recommended for you|recent posts|popular posts|
all rights reserved.|all rights reserved|privacy policy|terms of use|terms of service|terms and conditions|cookie policy|accept cookies|accept all cookies|manage cookies|contact us|about us|site map|sitemap|
advertisement|advertisements|sponsored content|follow us|follow us on twitter|follow us on facebook|powered by wordpress|enable javascript to view this page.|
返回顶部|返回首页|回到顶部|回到首页|上一篇|下一篇|上一页|下一页|上一章|下一章|相关文章|相关阅读|推荐阅读|热门文章|最新文章|猜你喜欢|阅读全文|查看全文|查看更多|加载更多|点击查看更多|展开全文|
分享到|分享到：|分享到微信|分享|收藏本站|设为首页|加入收藏|打印本页|关闭窗口|扫一扫|扫码关注|扫码关注我们|关注我们|微信扫一扫|长按识别二维码|点击关注|
登录|注册|登录/注册|免费注册|忘记密码|发表评论|我要评论|查看评论|暂无评论|评论|广告|联系我们|关于我们|网站地图|友情链接|版权声明|免责声明|隐私政策|用户协议|版权所有|版权所有 翻版必究|版权所有，违者必究`)

func set(lines string) map[string]bool {
	m := map[string]bool{}
	for line := range strings.SplitSeq(strings.ReplaceAll(lines, "\n", ""), "|") {
		m[strings.TrimSpace(line)] = true
	}
	return m
}

// beginnings are those of lines that go on with a name or a number.
var beginnings = []string{"copyright ©", "© ", "copyright (c) ", "powered by ", "share this:", "版权所有：", "版权所有:", "版权所有©", "责任编辑：", "责任编辑:", "本文来源：", "文章来源：", "icp备", "京icp", "沪icp", "粤icp", "浙icp", "京公网安备", "电话：", "传真：", "邮编："}

// isBoilerplate reports whether a line, without the space around it, belongs to the page.
func isBoilerplate(line string) bool {
	if len(line) == 0 || len(line) > maxBoilerplate {
		return false
	}
	lower := line
	for i := range len(line) {
		if c := line[i]; 'A' <= c && c <= 'Z' {
			lower = strings.ToLower(line)
			break
		}
	}
	if boilerplate[lower] {
		return true
	}
	for _, b := range beginnings {
		if lower[0] == b[0] && strings.HasPrefix(lower, b) {
			return true
		}
	}
	return false
}

// tidy drops lines of boilerplate, white space at the end of lines, and all but two of more line feeds.
func (s *step) tidy(text string) string {
	var out []byte // in use from the first line on that changes
	changed := false
	feeds := 0
	for at := 0; at < len(text); {
		end := strings.IndexByte(text[at:], '\n')
		next := len(text)
		if end < 0 {
			end = len(text)
		} else {
			end += at
			next = end + 1
		}
		line := text[at:end]
		full := strings.TrimSpace(line)
		drop := s.Boilerplate && isBoilerplate(full) || s.lines != nil && full != "" && s.lines.MatchString(full)
		keep := line
		if s.Whitespace {
			keep = strings.TrimRight(line, " \t\u00a0\u3000")
			if keep == "" && !drop {
				feeds++
				drop = feeds > 1
			} else if !drop {
				feeds = 0
			}
		}
		if (drop || len(keep) < len(line)) && !changed {
			out = append(make([]byte, 0, len(text)), text[:at]...)
			changed = true
		}
		if changed && !drop {
			out = append(append(out, keep...), text[end:next]...)
		}
		at = next
	}
	if changed {
		text = string(out)
	}
	if s.Whitespace {
		text = strings.TrimRight(strings.TrimLeft(text, "\n"), "\n \t")
	}
	return text
}
