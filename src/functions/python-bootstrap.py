# Runs in the process of a function with a Python handler: asks for calls, gives them to the handler, hands its answers back.
import http.client
import importlib.util
import json
import logging
import os
import sys
import time
import traceback

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
ROOT = "/2018-06-01/runtime"


class Context:
    def __init__(self, headers):
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = "$LATEST"
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = ""
        self.log_stream_name = ""
        self.identity = None
        self.client_context = None
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline_ms - int(time.time() * 1000))


def ask(method, path, body=None):
    connection = http.client.HTTPConnection(API)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, ROOT + path, body=body, headers=headers)
        response = connection.getresponse()
        return response.headers, response.read()
    finally:
        connection.close()


def describe(error):
    frames = traceback.format_exception(type(error), error, error.__traceback__)
    return json.dumps(
        {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": frames[-20:]}
    ).encode()


def load(path, name):
    folder = os.path.dirname(path)
    sys.path.insert(0, folder)
    module_name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        raise AttributeError("%s has no function %s" % (path, name))
    return found


def main():
    logging.basicConfig(format="[%(levelname)s]\t%(message)s")  # as in AWS Lambda, loggers write without being set up
    try:
        handler = load(sys.argv[1], sys.argv[2])
    except BaseException as error:  # SystemExit of a module is a failed start as well
        traceback.print_exc()
        ask("POST", "/init/error", describe(error))
        sys.exit(1)
    while True:
        headers, event = ask("GET", "/invocation/next")
        context = Context(headers)
        try:
            answer = json.dumps(handler(json.loads(event), context)).encode()
            ask("POST", "/invocation/%s/response" % context.aws_request_id, answer)
        except Exception as error:
            traceback.print_exc()
            ask("POST", "/invocation/%s/error" % context.aws_request_id, describe(error))


main()
