"""Reading a page as a browser would, without one."""

import json
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "source", "br", "line", "rect", "circle"}


class Parsed(HTMLParser):
    """Elements, their attributes and text; ``errors`` names elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.errors, self.elements, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        self.errors += self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID or tag in ("line", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def seen(self):
        """Text that a reader sees."""
        return " ".join(data for tag, data in self.texts if tag not in ("script", "style"))

    def data(self, identifier):
        """Values of a JSON element."""
        ids = [attributes.get("id") for attributes in self.named("script")]
        texts = [data for tag, data in self.texts if tag == "script"]
        return json.loads(texts[ids.index(identifier)])

    def references(self):
        """Every address in an attribute."""
        keys = ("src", "href", "action", "poster", "data", "srcset")
        return [attributes[key] for _, attributes in self.elements for key in keys if attributes.get(key)]
