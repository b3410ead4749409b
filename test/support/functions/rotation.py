# Rekey's own rotation functions for tests, one handler for PostgreSQL and one for MySQL and MariaDB. They make the calls that
# AWS documents for its templates, in that order: single user, or alternating users where the secret names a superuser's.
import json
import logging
import os

import boto3

logger = logging.getLogger()
logger.setLevel(logging.INFO)

SUFFIX = "_clone"


def postgres_handler(event, context):
    rotate(event, PostgreSql)


def mysql_handler(event, context):
    rotate(event, MySql)


def rotate(event, database):
    client = boto3.client("secretsmanager", endpoint_url=os.environ["SECRETS_MANAGER_ENDPOINT"])
    arn, token = event["SecretId"], event["ClientRequestToken"]
    logger.info("event %s", event)
    described = client.describe_secret(SecretId=arn)
    if not described.get("RotationEnabled"):
        raise ValueError("rotation is not enabled for %s" % arn)
    stages = described["VersionIdsToStages"].get(token)
    if stages is None:
        raise ValueError("%s has no version %s" % (arn, token))
    if "AWSCURRENT" in stages:
        return
    if "AWSPENDING" not in stages:
        raise ValueError("version %s is not pending" % token)
    steps = {"createSecret": create, "setSecret": set_password, "testSecret": test, "finishSecret": finish}
    steps[event["Step"]](client, arn, token, database)


def read(client, arn, stage, token=None):
    version = {"VersionId": token} if token else {}
    return json.loads(client.get_secret_value(SecretId=arn, VersionStage=stage, **version)["SecretString"])


def create(client, arn, token, database):
    value = read(client, arn, "AWSCURRENT")
    try:
        read(client, arn, "AWSPENDING", token)
        return
    except client.exceptions.ResourceNotFoundException:
        pass
    if "masterarn" in value:
        name = value["username"]
        value["username"] = name[: -len(SUFFIX)] if name.endswith(SUFFIX) else name + SUFFIX
    value["password"] = client.get_random_password(
        ExcludeCharacters=os.environ.get("EXCLUDE_CHARACTERS", "/@\"'\\:"),
        PasswordLength=int(os.environ.get("PASSWORD_LENGTH", 32)),
        ExcludePunctuation=os.environ.get("EXCLUDE_PUNCTUATION") == "true",
        ExcludeNumbers=False,
        ExcludeUppercase=False,
        ExcludeLowercase=False,
        RequireEachIncludedType=True,
    )["RandomPassword"]
    print("made", json.dumps(value), repr(value["password"]))
    client.put_secret_value(
        SecretId=arn, ClientRequestToken=token, SecretString=json.dumps(value), VersionStages=["AWSPENDING"]
    )


def set_password(client, arn, token, database):
    pending = read(client, arn, "AWSPENDING", token)
    connection = database.login(pending)
    if connection:
        connection.close()
        return
    current = read(client, arn, "AWSCURRENT")
    if "masterarn" in current:
        master = read(client, current["masterarn"], "AWSCURRENT")
        if master["host"] != current["host"]:
            raise ValueError("the superuser's secret is of another host")
        database.alternate(database.login(master) or refuse(arn), current, pending)
    else:
        database.change(database.login(current) or database.login(previous(client, arn)) or refuse(arn), pending)


def previous(client, arn):
    try:
        return read(client, arn, "AWSPREVIOUS")
    except client.exceptions.ResourceNotFoundException:
        refuse(arn)


def test(client, arn, token, database):
    connection = database.login(read(client, arn, "AWSPENDING", token)) or refuse(arn)
    with connection.cursor() as cursor:
        cursor.execute("select now()")
    connection.close()


def finish(client, arn, token, database):
    versions = client.describe_secret(SecretId=arn)["VersionIdsToStages"]
    current = next((version for version, stages in versions.items() if "AWSCURRENT" in stages), None)
    if current == token:
        return
    client.update_secret_version_stage(
        SecretId=arn, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current
    )
    if "REMOVE_PENDING" in os.environ:
        client.update_secret_version_stage(SecretId=arn, VersionStage="AWSPENDING", RemoveFromVersionId=token)


def refuse(arn):
    raise ValueError("no version of %s logs in" % arn)


class PostgreSql:
    @staticmethod
    def login(value):
        import pg
        import pgdb

        try:
            return pgdb.connect(
                host=value["host"],
                user=value["username"],
                password=value["password"],
                database=value.get("dbname", "postgres"),
                port=value.get("port", 5432),
                connect_timeout=5,
                sslmode="disable",
            )
        except pg.InternalError:
            return None

    @staticmethod
    def change(connection, pending):
        with connection.cursor() as cursor:
            cursor.execute("select quote_ident(%s)", (pending["username"],))
            user = cursor.fetchone()[0]
            cursor.execute("alter user %s with password %%s" % user, (pending["password"],))
            connection.commit()
        connection.close()

    @staticmethod
    def alternate(connection, current, pending):
        with connection.cursor() as cursor:
            cursor.execute("select quote_ident(%s), quote_ident(%s)", (current["username"], pending["username"]))
            old, new = cursor.fetchone()
            cursor.execute("select 1 from pg_roles where rolname = %s", (pending["username"],))
            verb = "alter" if cursor.fetchone() else "create"
            cursor.execute("%s role %s with login password %%s" % (verb, new), (pending["password"],))
            if verb == "create":
                cursor.execute("grant %s to %s" % (old, new))
            connection.commit()
        connection.close()


class MySql:
    @staticmethod
    def login(value):
        import pymysql

        try:
            return pymysql.connect(
                host=value["host"],
                user=value["username"],
                password=value["password"],
                port=value.get("port", 3306),
                connect_timeout=5,
            )
        except pymysql.OperationalError:
            return None

    @staticmethod
    def change(connection, pending):
        with connection.cursor() as cursor:
            cursor.execute("set password = password(%s)", (pending["password"],))
            connection.commit()
        connection.close()

    @staticmethod
    def alternate(connection, current, pending):
        with connection.cursor() as cursor:
            cursor.execute("select user from mysql.user where user = %s", (pending["username"],))
            if cursor.rowcount == 0:
                cursor.execute("create user %s identified by %s", (pending["username"], pending["password"]))
            cursor.execute("show grants for %s", (current["username"],))
            for (grant,) in cursor.fetchall():
                privileges, _, rest = grant.partition(" TO ")
                if "USAGE" not in privileges:
                    cursor.execute(privileges.replace("%", "%%") + " to %s", (pending["username"],))
            cursor.execute("alter user %s identified by %s", (pending["username"], pending["password"]))
            connection.commit()
        connection.close()
