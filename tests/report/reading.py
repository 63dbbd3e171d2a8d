"""A page as a browser finds it."""

import json
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """The elements of a page as a browser finds them: names with attributes, and the text of one language outside scripts."""

    def __init__(self, text, language="en"):
        super().__init__()
        self.elements, self.words, self.scripts = [], [], []
        self.inside, self.other = [], {"en": "zh", "zh": "en"}[language]
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br", "input"):
            self.inside.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self.inside[-1] if self.inside else ("", {})
        if tag == "script":
            self.scripts.append((attributes, data))
        elif tag != "style" and not any(self.other in (other.get("class") or "").split() for _, other in self.inside):
            self.words.append(data)


def embedded(text):
    (data,) = [content for attributes, content in Page(text).scripts if attributes.get("id") == "facts"]
    return json.loads(data)


def check_languages(text):
    """Every text is there in English and in Chinese, which has its own punctuation."""
    english, chinese = (re.findall(rf'<span class="{name}" lang="[\w-]+">(.*?)</span>', text) for name in ("en", "zh"))
    assert len(english) == len(chinese) > 30
    same = {a for a, b in zip(english, chinese, strict=True) if a == b}
    assert same <= {"top-5"}
    assert sum(bool(re.search("[\u4e00-\u9fff]", words)) for words in chinese) >= len(chinese) - 5
    assert not [words for words in chinese if re.search("[\u4e00-\u9fff][,:;?(]|[,:;?(][\u4e00-\u9fff]", words)]  # full-width ones
    in_both = ("中文", "可靠性图", "首位错误率与每张图片的毫秒数")
    seen = Page(text).text
    assert not re.search("[\u4e00-\u9fff]", re.sub("|".join(in_both), "", seen))
    assert all(len(re.findall(rf"data-label-{name}=", text)) == text.count("data-label-en=") for name in ("en", "zh"))
