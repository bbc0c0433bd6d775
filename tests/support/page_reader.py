"""Reads a page of HTML as a browser's parser would, only stricter."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Collects what a page refers to, and fails when its tags do not match.

    Parameters
    ----------
    text
        The page.
    """

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.images, self.ids, self.tags = [], [], [], [], []
        self.feed(text)
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag == "img":
            self.images.append((found["src"], found["alt"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
