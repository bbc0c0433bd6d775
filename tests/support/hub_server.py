"""A stand-in for the Hugging Face hub: the part of its HTTP interface that huggingface_hub 2 asks for adapters.

It makes repositories, takes commits with files in base64 and in git LFS, makes branches, and serves what it has. It
was written after what the library sends; against the real hub nothing was tried.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_writer"
_NAME = r"(?P<name>[^/]+/[^/]+)"


class Hub:
    """What the hub holds: repositories by name, each with branches of files, and the requests it was sent."""

    def __init__(self):
        self.repositories, self.blobs, self.requests = {}, {}, []
        self.down = False  # answers every request with 503

    def add(self, name, private=False, **files):
        """Make a repository with files on its main branch."""
        self.repositories[name] = {"private": private, "branches": {"main": dict(files)}, "messages": []}

    def files(self, name, revision="main"):
        """Return the files of a branch, or None."""
        branches = self.repositories[name]["branches"]
        by_commit = {commit_of(files): files for files in branches.values()}
        return branches.get(revision, by_commit.get(revision))


def commit_of(files):
    """Return the commit that stands for these files."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


@contextmanager
def serving(hub):
    """Serve a hub on a free port of this machine, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refused(Exception):
    def __init__(self, status, told, code=None):
        super().__init__(told)
        self.status, self.told, self.code = status, told, code


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words):
            """Write nothing."""

        def answer(self):
            size = int(self.headers.get("Content-Length") or 0)
            body, path = self.rfile.read(size), unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path))
            try:
                if hub.down:
                    raise _Refused(503, "the hub is down")
                for method, pattern, act in _ROUTES:
                    if self.command in method and (found := re.fullmatch(pattern, path)):
                        status, headers, content = act(self, found, body)
                        break
                else:
                    raise _Refused(404, f"the stand-in does not know {self.command} {path}")
            except _Refused as refused:
                status, content = refused.status, json.dumps({"error": refused.told}).encode()
                headers = {"X-Error-Message": refused.told}
                headers |= {"X-Error-Code": refused.code} if refused.code else {}
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = answer

        def repository(self, name, write=False):
            """Return a repository that the caller may see, and write into if need be."""
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            found = hub.repositories.get(name)
            if found is None or (found["private"] and not known):
                raise _Refused(404, "Repository not found", "RepoNotFound")
            if write and not known:
                raise _Refused(403, "You don't have the rights to write here")
            return found

        def files(self, name, revision):
            self.repository(name)
            files = hub.files(name, revision)
            if files is None:
                raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return files

    def as_json(value):
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def create(handler, found, body):
        if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, "Invalid credentials in Authorization header")
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        status, _, content = as_json({"url": f"http://{handler.headers['Host']}/{name}"})
        if name in hub.repositories:
            return 409, {"X-Error-Message": "You already created this model repo"}, content
        hub.add(name, private=wanted.get("visibility") == "private")
        return status, {}, content

    def info(handler, found, body):
        name, revision = found["name"], found["revision"] or "main"
        files = handler.files(name, revision)
        told = {"id": name, "sha": commit_of(files), "private": hub.repositories[name]["private"]}
        return as_json(told | {"siblings": [{"rfilename": path} for path in sorted(files)]})

    def validate(handler, found, body):
        text = json.loads(body)["content"]
        assert text.startswith("---\n")
        return as_json({"errors": [], "warnings": []})

    def preupload(handler, found, body):
        handler.repository(found["name"], write=True)
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
        return as_json({"files": [{"path": path, "uploadMode": modes[path], "shouldIgnore": False} for path in paths]})

    def batch(handler, found, body):
        handler.repository(found["name"], write=True)
        wanted = json.loads(body)
        assert wanted["operation"] == "upload" and wanted["hash_algo"] == "sha256"
        base = f"http://{handler.headers['Host']}"

        def action(one):
            return {"upload": {"href": f"{base}/lfs/{one['oid']}"}, "verify": {"href": f"{base}/verify/{one['oid']}"}}

        objects = [one if one["oid"] in hub.blobs else one | {"actions": action(one)} for one in wanted["objects"]]
        return as_json({"transfer": "basic", "objects": objects})

    def store(handler, found, body):
        if hashlib.sha256(body).hexdigest() != found["oid"]:
            raise _Refused(400, "the bytes are not those of their name")
        hub.blobs[found["oid"]] = body
        return 200, {}, b""

    def verify(handler, found, body):
        if len(hub.blobs.get(found["oid"], b"")) != json.loads(body)["size"]:
            raise _Refused(422, "the upload is not whole")
        return 200, {}, b""

    def commit(handler, found, body):
        branches = handler.repository(found["name"], write=True)["branches"]
        if found["revision"] not in branches:
            raise _Refused(404, "Invalid rev id", "RevisionNotFound")
        files = dict(branches[found["revision"]])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                hub.repositories[found["name"]]["messages"].append(value["summary"])
            elif line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile" and value["algo"] == "sha256"
                files[value["path"]] = hub.blobs[value["oid"]]
        branches[found["revision"]] = files
        oid = commit_of(files)
        url = f"http://{handler.headers['Host']}/{found['name']}/commit/{oid}"
        return as_json({"success": True, "commitOid": oid, "commitUrl": url})

    def branch(handler, found, body):
        branches = handler.repository(found["name"], write=True)["branches"]
        if found["revision"] in branches:
            raise _Refused(409, "Reference already exists")
        branches[found["revision"]] = dict(branches["main"])
        return 201, {}, b""

    def tree(handler, found, body):
        files = handler.files(found["name"], found["revision"])
        return as_json(
            [{"type": "file", "path": path, "size": len(text), "oid": _etag(text)} for path, text in files.items()]
        )

    def resolve(handler, found, body):
        files = handler.files(found["name"], found["revision"])
        if found["path"] not in files:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        content = files[found["path"]]
        return 200, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit_of(files)}, content

    _ROUTES = [
        (("POST",), r"/api/repos/create", create),
        (("POST",), r"/api/validate-yaml", validate),
        (("GET",), rf"/api/models/{_NAME}(?:/revision/(?P<revision>.+))?", info),
        (("POST",), rf"/api/models/{_NAME}/preupload/(?P<revision>.+)", preupload),
        (("POST",), rf"/api/models/{_NAME}/commit/(?P<revision>.+)", commit),
        (("POST",), rf"/api/models/{_NAME}/branch/(?P<revision>.+)", branch),
        (("GET",), rf"/api/models/{_NAME}/tree/(?P<revision>.+)", tree),
        (("POST",), rf"/{_NAME}\.git/info/lfs/objects/batch", batch),
        (("PUT",), r"/lfs/(?P<oid>\w+)", store),
        (("POST",), r"/verify/(?P<oid>\w+)", verify),
        (("GET", "HEAD"), rf"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
    ]
    return Handler


def _etag(content):
    return hashlib.sha1(content).hexdigest()
