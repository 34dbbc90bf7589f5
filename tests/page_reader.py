"""What the tests of pages read them with, and a text that would do harm in one if it were not escaped."""

from html.parser import HTMLParser

VOID_TAGS = {"meta", "link"}
NASTY = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'&\x1b[31m"


class Page(HTMLParser):
    """A page's elements, headings, and text, with a complaint for every element that is not closed in its turn."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, tag: str, name: str) -> list[str | None]:
        return [value for found, key, value in self.attributes if (found, key) == (tag, name)]
