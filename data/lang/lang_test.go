package lang_test

import (
	"strings"
	"testing"

	"pretrain/data"
	"pretrain/data/lang"
)

// Article 1 of the Universal Declaration of Human Rights, and a few texts that are harder.
var texts = map[string]string{
	"en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and should act towards one another in a spirit of brotherhood.",
	"de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
	"fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
	"nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
	"ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства.",
	"uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю і повинні діяти у відношенні один до одного в дусі братерства.",
	"zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
	"ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
	"ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
	"th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
	"ar": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً وعليهم أن يعامل بعضهم بعضاً بروح الإخاء.",
}

func TestDetect(t *testing.T) {
	x := lang.NewDetector(lang.Default())
	for want, text := range texts {
		for _, s := range []string{text, strings.ToUpper(text), strings.Repeat(text+"\n", 200)} {
			if got, score := x.Detect(s); got != want || score < 0.15 || score > 1.001 {
				t.Errorf("%.40q: %s %.2f, want %s", s, got, score, want)
			}
		}
	}
	for text, want := range map[string]string{
		"安装 kubectl 后运行 kubectl get pods --all-namespaces 查看状态，然后部署应用。": "zh", // more Latin letters than Han
		"2026-11-25 12:00:00 1.5 % 300": "",
		"":                              "",
	} {
		if got, _ := x.Detect(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Filter drops what is not to be kept, and what is not sure; what the record says stays.
func TestStep(t *testing.T) {
	c := lang.Default()
	c.Mode, c.Keep = data.Filter, []string{"zh", "en"}
	s := lang.NewDetector(c).Step()
	for code, want := range map[string]data.Reason{"zh": "", "en": "", "ko": lang.OtherLanguage, "de": lang.OtherLanguage} {
		d := data.Document{Text: texts[code]}
		if got, detail := s.Apply(&d); got != want || d.Language != code || d.TextOf("lang") != code {
			t.Errorf("%s: %q (%s), recorded as %q", code, got, detail, d.Language)
		}
	}
	d := data.Document{Text: "一二三四五六七 " + strings.Repeat("привет ", 2), Attributes: data.Attributes{Language: "zh-Hant"}}
	if got, detail := s.Apply(&d); got != lang.Unsure || d.Language != "zh-Hant" {
		t.Errorf("%q (%s), %s", got, detail, d.Language)
	}
	if err := (lang.Config{Mode: "drop", Candidates: []string{"xx"}}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
}

func BenchmarkDetect(b *testing.B) {
	x := lang.NewDetector(lang.Default())
	for _, code := range []string{"en", "zh", "de"} {
		text := strings.Repeat(texts[code]+"\n", 4096/len(texts[code]))
		x.Detect(text)
		b.Run(code, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				x.Detect(text)
			}
		})
	}
}
