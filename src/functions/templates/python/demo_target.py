# Stands in for your target while you try things out: one user, whose password anybody may change who knows it.
# It forgets everything when it ends, and begins with the password that stands in demo-secret.json.
import base64
import hmac
import json
import pathlib
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIRST = json.loads(pathlib.Path(__file__).with_name("demo-secret.json").read_text())
state = {"password": FIRST["password"]}


class Target(BaseHTTPRequestHandler):
    def answer(self):
        login = "%s:%s" % (FIRST["username"], state["password"])
        wanted = "Basic " + base64.b64encode(login.encode()).decode()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), wanted.encode()):
            status = 401
        elif self.command == "GET" and self.path == "/login":
            status = 200
        elif self.command == "PUT" and self.path == "/password":
            state["password"] = json.loads(body)["password"]
            status = 204
        else:
            status = 404
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", urllib.parse.urlparse(FIRST["url"]).port), Target)
print("the demo target listens on %s" % FIRST["url"], flush=True)
server.serve_forever()
