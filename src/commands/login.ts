import { hostname } from "node:os";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { type Flags, settings } from "../config.ts";
import { callApi } from "./api-client.ts";
import { addClientOptions, exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { askConfigApi, ConfigApiRefusal } from "./config-api.ts";
import { addConfigCommand, confirmed } from "./config-command.ts";
import { localCredentials, readCredentials } from "./known-servers.ts";
import { forgetLogin, keepLogin, type Login, loginsFor } from "./login-store.ts";
import { type Answer, cell, printFields, printJson, printLine } from "./output.ts";
import { withProgress } from "./progress.ts";
import { connectionOf, findScope } from "./scope.ts";
import { secretBytes } from "./typed-values.ts";

const pollMs = 2_000;
const longestMs = 10 * 60_000;
const scopeOption = ["--scope <folder>", "where it holds: in this folder and those below; default everywhere"] as const;

/** `rekey login`, `rekey logout` and `rekey me` */
export function addLoginCommands(program: Command): void {
  const login = program
    .command("login")
    .description("Get a token for this machine, after somebody who may has said yes; or keep one that you have")
    .usage("[options]")
    .helpCommand(false)
    .option("--token-stdin", "keep the token that standard input holds")
    .option("--oidc-identity <id>", "exchange an issuer's token, which standard input holds, for one of a service account")
    .option(...scopeOption);
  addClientOptions(login).addHelpText("after", loginHelp);
  login.action(() => logIn(login.opts()));
  addApproval(login);

  const logout = program
    .command("logout")
    .description("Forget the login that holds here, and end its token")
    .option(...scopeOption);
  addClientOptions(logout).addHelpText("after", exampleText(["rekey logout", "rekey logout --scope ."]));
  logout.action(() => logOut(logout.opts()));

  addConfigCommand(program, {
    usage: "me",
    about: "show whom the server takes you for",
    needs: "server",
    examples: ["rekey me", "rekey me --json"],
    ask: (_typed, connection) => callApi(connection, "me/get", {}),
    show: (answer) =>
      printFields(answer, {
        ARN: "arn",
        Name: "name",
        Type: "type",
        Token: "tokenPreview",
        Project: "project",
        Config: "config",
        Workplace: ({ workplace }) => (workplace as Answer | undefined)?.name,
        Created: "createdAt",
        "Last seen": "lastSeenAt",
        Ends: "expiresAt",
      }),
  });
}

const loginHelp = `
The token is kept in ~/.config/rekey/logins, readable by you only, and goes to no other server than the one it was made for.
${exampleText([
  "rekey login --endpoint https://rekey.example.com",
  "rekey login --token-stdin < token",
  "rekey login --scope .",
  'printf %s "$CI_TOKEN" | rekey login --oidc-identity 3f0c2a6e-0f54-4e1c-9d5b-8f3f5f8f0b11',
])}`;

function addApproval(login: Command): void {
  const command = login.command("approve").argument("<code>").description("Say yes to a login on another machine");
  command.option("--yes", "without asking").option("--deny", "say no");
  addClientOptions(command).addHelpText("after", exampleText(["rekey login approve BCDF-GHJK"]));
  command.action(async (code: string) => {
    const options: Flags = command.optsWithGlobals(); // the options of login are the same, and may stand before
    const connection = connectionOf(await findScope(serverFlags(options)));
    const asking = await callApi(connection, "cli-logins/get", { code });
    if (options.json !== true)
      printFields(asking, { Code: "code", Machine: "hostname", System: "os", Address: "address", Asked: "createdAt" });
    const approve = options.deny !== true;
    if (approve) await confirmed(options, "Give this machine a token with all your rights?");
    const answer = await callApi(connection, "cli-logins/approve", { code, approve });
    if (options.json === true) printJson(answer);
    else printLine(`the login is ${approve ? "approved" : "denied"}`);
  });
}

/** Without what another part of the settings reads. */
const serverFlags = ({ endpoint, token }: Flags): Flags => ({
  ...(endpoint !== undefined && { endpoint }),
  ...(token !== undefined && { token }),
});

const scopeOf = (options: Flags): string => (typeof options.scope === "string" ? resolve(options.scope) : "/");

async function logIn(options: Flags): Promise<void> {
  const endpoint = await endpointOf(options);
  const given = isGiven(options) ? await givenToken(endpoint, options.oidcIdentity) : undefined;
  const made = given ?? (await handshake(endpoint, options.json === true));
  const login: Login = { endpoint, scope: scopeOf(options), ...made };
  keepLogin(login);
  const { token: _token, ...shown } = login;
  if (options.json === true) printJson(shown);
  else {
    const where = login.scope === "/" ? "" : ` in ${login.scope}`;
    printLine(`logged in at ${endpoint} as ${login.name}${where}; rekey setup chooses project and config for a folder`);
    if (login.scope !== process.cwd() && readCredentials(localCredentials))
      printLine(`in this folder ${localCredentials} goes first; --scope . puts this login before it`);
  }
}

/** Whether standard input has what there is to be had, so that nobody is asked. */
const isGiven = ({ tokenStdin, oidcIdentity }: Flags): boolean => tokenStdin === true || oidcIdentity !== undefined;

/** Told, or that of the nearest login, or asked for. */
async function endpointOf(options: Flags): Promise<string> {
  const { endpoint } = await findScope(serverFlags({ endpoint: options.endpoint }));
  if (endpoint) return endpoint.value;
  if (!process.stdin.isTTY || isGiven(options)) throw new CommandError(2, "it is not told which server: give --endpoint");
  const { isCancel, text } = await import("@clack/prompts");
  const answer = await text({
    message: "Address of the server",
    initialValue: "http://127.0.0.1:7353",
    output: process.stderr,
    validate: (typed) => (settings.endpoint.parse(typed ?? "") ? undefined : `must be ${settings.endpoint.range}`),
  });
  if (isCancel(answer)) throw new CommandError(1, "nothing was changed");
  return settings.endpoint.parse(answer) ?? answer;
}

async function givenToken(endpoint: string, identity: unknown): Promise<{ token: string; name: string }> {
  const bytes = await secretBytes({ path: undefined, text: true, question: "Token" });
  const text = bytes.toString("utf8").trim();
  const token = identity === undefined ? settings.token.parse(text) : await exchanged(endpoint, String(identity), text);
  if (token === undefined) throw new CommandError(2, `standard input must hold ${settings.token.range}`);
  return { token, name: await nameOf({ endpoint, token }) };
}

/** The short-lived token that an identity gives for one of its issuer. */
async function exchanged(endpoint: string, identity: string, token: string): Promise<string> {
  const answer = await askConfigApi({ endpoint }, "auth/oidc", { method: "POST", body: { identity, token } });
  return String(answer.token);
}

/** Whose a token is: the user's name; of other principals what the token is called. */
async function nameOf(connection: { endpoint: string; token: string }): Promise<string> {
  const { arn, name } = await callApi(connection, "me/get", {});
  return /:user\/(.+)$/.exec(String(arn))?.[1] ?? String(name);
}

async function handshake(endpoint: string, isJson: boolean): Promise<{ token: string; name: string }> {
  const anybody = { endpoint };
  const query = { hostname: hostname(), os: process.platform, arch: process.arch };
  const begun = await askConfigApi(anybody, "auth/cli/generate/2", { query });
  const code = String(begun.code);
  const url = new URL(String(begun.auth_url), endpoint).href;
  const say = (text: string) => process.stderr.write(`${text}\n`);
  if (isJson) say(JSON.stringify({ code, url }));
  else say(`Code: ${code}\nSay yes at ${url}, or where you are logged in already: rekey login approve ${code}`);
  const answer = await withProgress("waiting for a yes", () => poll(anybody, String(begun.polling_code)));
  if (typeof answer.token !== "string") throw new CommandError(1, String(answer.error ?? "the login was refused"));
  return { token: answer.token, name: await nameOf({ endpoint, token: answer.token }) };
}

/** 409 is nobody's answer yet; a server that restarts meanwhile is no end either. */
async function poll(anybody: { endpoint: string }, code: string): Promise<Answer> {
  for (const until = Date.now() + longestMs; Date.now() < until; await sleep(pollMs)) {
    try {
      return await askConfigApi(anybody, "auth/cli/authorize", { method: "POST", body: { code } });
    } catch (error) {
      const isPending = error instanceof ConfigApiRefusal && error.status === 409;
      if (!isPending && !(error instanceof CommandError && error.exitCode === 3)) throw error;
    }
  }
  throw new CommandError(1, "nobody said yes in time: run rekey login again");
}

async function logOut(options: Flags): Promise<void> {
  const found = loginsFor(process.cwd()).find(
    ({ endpoint, scope }) =>
      (options.endpoint === undefined || settings.endpoint.parse(String(options.endpoint)) === endpoint) &&
      (options.scope === undefined || scope === scopeOf(options)),
  );
  if (!found) throw new CommandError(1, "there is no such login here; rekey setup --show tells what holds");
  const { endpoint, token } = found;
  const revoked = await askConfigApi({ endpoint, token }, "auth/cli/revoke", { method: "POST", body: { token } }).catch(
    (error: unknown) => {
      if (!(error instanceof CommandError)) throw error;
      process.stderr.write(`rekey: warning: the token could not be ended: ${error.message}\n`);
    },
  );
  forgetLogin(found);
  const { token: _token, ...shown } = found;
  if (options.json === true) printJson({ ...shown, revoked: revoked !== undefined });
  else printLine(`logged out of ${endpoint}${found.scope === "/" ? "" : ` in ${cell(found.scope)}`}`);
}
