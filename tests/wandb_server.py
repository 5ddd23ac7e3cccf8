"""As much of W&B's server as its client needs to log, resume, sync and read runs; what it holds can be looked at.

Rows are kept where the client says that they belong (``offset``), as W&B's file stream is described; whatever else the
real server does to them is not here.
"""

import gzip
import http.server
import json
import sys
import threading
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """``runs``: by id, a dict of ``config``, ``group``, ``job_type``, ``tags``, ``history`` (rows), ``summary``, …

    ``mood``: "well", "hole" (accepts and never answers) or "ill" (answers 500).
    """

    daemon_threads = True

    def __init__(self, mood: str = "well"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.mood, self.runs, self.asked = mood, {}, []  # type: str, dict[str, dict[str, Any]], list[str]
        self.project = ("us", "roadmap")
        self.left = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def run(self, name: str) -> dict[str, Any]:
        fresh = {"config": "{}", "history": [], "summary": {}, "exit": None, "group": None, "job_type": None}
        return self.runs.setdefault(name, fresh | {"tags": [], "state": "running", "display": name})

    def handle_error(self, request: Any, client_address: Any) -> None:
        # a client that was killed does not take its answer
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def leave(self) -> None:
        self.left.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.server.mood == "hole":
            self.server.left.wait()
            return
        if self.server.mood == "ill":
            self.answer({}, status=500)
        elif self.path.endswith("/file_stream"):
            self.stream(self.path.split("/")[-2], json.loads(body))
        elif self.path.endswith("/graphql"):
            asked = json.loads(body)
            self.server.asked.append(asked["query"])
            self.answer({"data": self.graphql(asked["query"], asked.get("variables") or {})})
        else:
            self.answer({})

    do_GET = do_PUT = do_POST  # noqa: N815

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        run = self.server.run(name)
        for file, chunk in sent.get("files", {}).items():
            rows = [json.loads(line) for line in chunk["content"]]
            if file == "wandb-history.jsonl":
                run["history"][chunk["offset"] : chunk["offset"] + len(rows)] = rows
            elif file == "wandb-summary.json":
                run["summary"] = rows[-1]
        if sent.get("complete"):
            run["exit"] = sent["exitcode"]
            run["state"] = "failed" if sent["exitcode"] else "finished"
        self.answer({"limits": {}, "exitcode": None})

    def graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        entity, project = self.server.project
        place = {"id": "p", "name": project, "entity": {"id": "e", "name": entity}}
        if "upsertBucket" in query:
            name = given["name"] or given["id"]
            new = name not in self.server.runs
            run = self.server.run(name)
            for key, field in (("config", "config"), ("groupName", "group"), ("jobType", "job_type"), ("tags", "tags")):
                run[field] = given.get(key) or run[field]
            run["display"] = given.get("displayName") or run["display"]
            return {"upsertBucket": {"bucket": self.bucket(name) | {"project": place}, "inserted": new}}
        if "createRunFiles" in query:
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": []}}
        if "bucket(" in query:
            bucket = self.bucket(given["name"]) if given["name"] in self.server.runs else None
            return {"model": place | {"bucket": bucket}}
        if "project(" in query:
            return {"project": self.read(query, given)}
        viewer = {"id": "v", "name": "us", "username": "us", "entity": "us", "flags": "{}", "email": "", "admin": False}
        viewer |= {"teams": {"edges": []}, "apiKeys": {"edges": []}, "deletedAt": None}
        info = {"cliVersionInfo": {}, "features": [], "latestLocalVersionInfo": None}
        return {"viewer": viewer, "serverInfo": info}

    def bucket(self, name: str) -> dict[str, Any]:
        run = self.server.run(name)
        history = [json.dumps(row) for row in run["history"]]
        bucket = {"id": name, "name": name, "displayName": run["display"], "description": "", "sweepName": None}
        bucket |= {"summaryMetrics": json.dumps(run["summary"]), "config": run["config"], "tags": run["tags"]}
        bucket |= {"historyLineCount": len(history), "historyTail": json.dumps(history[-1:]), "eventsTail": "[]"}
        return bucket | {"logLineCount": 0, "eventsLineCount": 0, "notes": "", "wandbConfig": '{"t": {}}'}

    def read(self, query: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """What wandb.Api asks of a project."""
        if (given["entity"], given["project"]) != self.server.project:
            return None
        if "runs(" in query:
            names = sorted(self.server.runs)
            first = names.index(given["cursor"]) + 1 if given.get("cursor") else 0
            page = names[first : first + given["perPage"]]
            edges = [{"node": self.node(name), "cursor": name} for name in page]
            more = {"endCursor": page[-1] if page else None, "hasNextPage": first + len(page) < len(names)}
            runs = {"edges": edges, "pageInfo": more}
            return {"internalId": "1", "runCount": len(names), "readOnly": False, "runs": runs}
        name = given.get("name") or given.get("runName") or given.get("run")
        return {"run": self.node(name) if name in self.server.runs else None}

    def node(self, name: str) -> dict[str, Any]:
        run = self.server.run(name)
        last = max((row["_step"] for row in run["history"]), default=-1)
        node = self.bucket(name) | {"state": run["state"], "group": run["group"], "jobType": run["job_type"]}
        node |= {"createdAt": "2026-01-02T03:04:05Z", "heartbeatAt": "2026-01-02T03:14:05Z", "commit": None}
        node |= {"readOnly": False, "systemMetrics": "{}", "user": {"name": "us", "username": "us"}, "projectId": "1"}
        live = {"parquetUrls": [], "liveData": [{"_step": row["_step"]} for row in run["history"]]}
        node |= {"historyKeys": {"lastStep": last}, "parquetHistory": live}
        return node | {"history": [json.dumps(row) for row in run["history"]]}

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
