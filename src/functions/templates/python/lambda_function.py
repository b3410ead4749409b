# A rotation function. Secrets Manager calls it four times for each rotation, once for each step, and again whenever an answer
# was lost or a step failed: every step may run twice, or be ended in the middle, and must end the same.
# What is yours to write stands at the end, under "The target".
import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request

import boto3

# Where the variable is not set, as at AWS, boto3 knows the address by itself.
secrets = boto3.client("secretsmanager", endpoint_url=os.environ.get("SECRETS_MANAGER_ENDPOINT"))


def lambda_handler(event, context):
    steps = {"createSecret": create, "setSecret": set_password, "testSecret": test, "finishSecret": finish}
    arn, token, step = event["SecretId"], event["ClientRequestToken"], event["Step"]
    if step not in steps:
        raise ValueError("there is no step %s" % step)
    # First of all the labels: they say whether this version is still to be rotated to.
    versions = secrets.describe_secret(SecretId=arn).get("VersionIdsToStages", {})
    if token not in versions:
        raise ValueError("the secret has no version %s" % token)
    if "AWSCURRENT" in versions[token]:
        return  # done before
    if "AWSPENDING" not in versions[token]:
        raise ValueError("version %s is not labelled AWSPENDING" % token)
    steps[step](arn, token, versions)


def create(arn, token, versions):
    """Makes the next value and stores it before anything else: whatever happens from here on, it is not lost."""
    if read(arn, token):
        return  # made before: another one would leave two that might be in force
    password = secrets.get_random_password(PasswordLength=32, ExcludePunctuation=True)["RandomPassword"]
    value = json.dumps({**read_current(arn), "password": password})
    try:
        secrets.put_secret_value(
            SecretId=arn, ClientRequestToken=token, SecretString=value, VersionStages=["AWSPENDING"]
        )
    except secrets.exceptions.ResourceExistsException:
        # Another call of this step was faster: its value counts.
        if not read(arn, token):
            raise


def set_password(arn, token, versions):
    """Puts the new value in force at the target, whichever one it takes now."""
    pending = read_pending(arn, token)
    if logs_in(pending):
        return  # set before
    previous = next((version for version, stages in versions.items() if "AWSPREVIOUS" in stages), None)
    for credential in (read_current(arn), previous and read(arn, previous, "AWSPREVIOUS")):
        if credential and logs_in(credential):
            change_password(credential, pending["password"])
            return
    raise ValueError("the target takes none of the secret's passwords")


def test(arn, token, versions):
    """Uses the new value as its readers will."""
    if not logs_in(read_pending(arn, token)):
        raise ValueError("the target does not take the new password")


def finish(arn, token, versions):
    """Moves the label: from now on readers get the new value."""
    read_pending(arn, token)
    current = next((version for version, stages in versions.items() if "AWSCURRENT" in stages), None)
    secrets.update_secret_version_stage(
        SecretId=arn, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current
    )


def read(arn, version, stage="AWSPENDING"):
    """The value of a version; None when it has none."""
    try:
        text = secrets.get_secret_value(SecretId=arn, VersionId=version, VersionStage=stage)["SecretString"]
    except secrets.exceptions.ResourceNotFoundException:
        return None
    return parse(text)


def read_pending(arn, token):
    pending = read(arn, token)
    if not pending:
        raise ValueError("version %s has no value: createSecret comes first" % token)
    return pending


def read_current(arn):
    return parse(secrets.get_secret_value(SecretId=arn, VersionStage="AWSCURRENT")["SecretString"])


def parse(text):
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("the secret's value is not JSON") from None


# ----------------------------------------------------------------------------------------------------------------------
# The target: yours to write. As it stands it works with demo_target.py, an HTTP server with one user.
# The secret's value is {"url": "http://127.0.0.1:8400", "username": "app", "password": "..."}.

# Longer than the target takes, and short enough that both logins fit into the function's timeout.
LONGEST_SECONDS = 5


def logs_in(credential):
    """Whether the target takes this credential. Only a clear refusal is False: no answer, a broken connection or an error of
    the target's own says nothing about the password, and must be raised, so that the step is tried again later."""
    status = ask(credential, "GET", "/login")
    if status == 200:
        return True
    if status == 401:
        return False
    raise RuntimeError("the target answered %d" % status)


def change_password(credential, password):
    """Replaces the password of the credential that the target takes now."""
    status = ask(credential, "PUT", "/password", json.dumps({"password": password}).encode())
    if status != 204:
        raise RuntimeError("the target answered %d" % status)


def ask(credential, method, path, body=None):
    """One request; never write what is sent into a log."""
    login = "%s:%s" % (credential["username"], credential["password"])
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    request = urllib.request.Request(
        urllib.parse.urljoin(credential["url"], path), data=body, headers=headers, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=LONGEST_SECONDS) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
