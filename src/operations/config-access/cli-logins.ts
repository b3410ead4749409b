import { randomBytes } from "node:crypto";
import { z } from "zod";
import { networkOf } from "../../core/address.ts";
import { ServiceError } from "../../core/error.ts";
import { nameInArn, newLoginCode, newPollingCode, userArn } from "../../core/identity.ts";
import { logActivity } from "../../store/activity.ts";
import { type CliLogin, decideLogin, findLogin, findPolledLogin, insertLogin, takeLogin } from "../../store/cli-logins.ts";
import { createToken, hashToken } from "../../store/credentials.ts";
import { loadPrincipal } from "../../store/identity.ts";
import { newToken } from "../identity/new-credentials.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { actor } from "./access-input.ts";

const lifeMs = 600_000;
const said = z.string().max(256).optional();
const beginInput = z.object({ Hostname: said, Version: said, Os: said, Arch: said });
const byCode = z.object({ Code: z.string().min(1).max(64) });
const everything: () => Resource = () => ({ arn: "*", context: {} });

const beginLogin = defineOperation<z.infer<typeof beginInput>, Resource>({
  name: "BeginLogin",
  noun: "cli-logins",
  verb: "begin",
  mode: "write",
  summary: "Begins the login of a command line; somebody says yes at AuthUrl, a path of this server, within ten minutes.",
  input: beginInput,
  resource: everything,
  async run({ Hostname, Version, Os, Arch }, _found, call) {
    const [code, pollingCode] = [newLoginCode(randomBytes), newPollingCode(randomBytes)];
    const createdAt = call.services.now();
    const about = {
      ...(Hostname && { hostname: Hostname }),
      ...(Version && { version: Version }),
      ...(Os && { os: Os }),
      ...(Arch && { arch: Arch }),
    };
    const login = { code, pollingHash: hashToken(pollingCode), address: networkOf(call.sourceIp), about };
    await call.transaction((tx) => insertLogin(tx, { ...login, createdAt, expiresAt: createdAt + lifeMs }));
    return { Code: code, PollingCode: pollingCode, AuthUrl: `/login#${code}`, ExpiresAt: new Date(createdAt + lifeMs) };
  },
});

const pollLogin = defineOperation<z.infer<typeof byCode>, Resource>({
  name: "PollLogin",
  noun: "cli-logins",
  verb: "poll",
  mode: "write",
  summary:
    "Fetches the token (dp.ct.…) of a login, once, by its polling code; PreconditionNotMetException while nobody said yes.",
  input: byCode,
  sensitive: ["Code"],
  resource: everything,
  async run({ Code }, _found, call) {
    const pollingHash = hashToken(Code);
    const login = await findPolledLogin(call.sql, pollingHash, call.services.now());
    if (!login) throw over();
    if (login.state === "pending")
      throw new ServiceError("PreconditionNotMetException", "Nobody has said yes to this login so far.");
    return call.transaction(async (tx) => {
      const taken = await takeLogin(tx, pollingHash);
      if (!taken) throw over();
      if (taken.state === "denied") return { Error: "The login was denied." };
      const principal = await loadPrincipal(tx, call.account, taken.principalArn ?? "");
      if (principal?.kind !== "user") throw over();
      const { token, ...kept } = newToken("cli");
      const name = taken.about.hostname ?? "command line";
      const createdAt = call.services.now();
      await createToken(tx, { ...kept, kind: "cli", principalArn: principal.arn, name, createdAt, expiresAt: undefined });
      await logActivity(tx, { ...actor({ ...call, principal }), text: `logged in a command line on ${name}` });
      return { Token: token, Name: name, DashboardUrl: "/login" };
    });
  },
});

const over = () => new ServiceError("ValidationException", "This login is over, or was never begun; begin another one.");

/** Of the one who says yes: a person, with the right to make tokens for itself. */
function ownUser({ principal, account }: Call): Resource {
  const name = nameInArn(principal.arn, account, "user");
  if (principal.kind !== "user" || name === undefined || principal.serviceAccount)
    throw new ServiceError("AccessDeniedException", "Only a user, with a token of its own, can say yes to a login.");
  const arn = userArn(account, name);
  return { arn, shown: arn, context: {} };
}

const shown = ({ code, state, address, about, createdAt, expiresAt }: CliLogin) => ({
  Code: code,
  State: state,
  Address: address,
  ...(about.hostname === undefined ? {} : { Hostname: about.hostname }),
  ...(about.os === undefined ? {} : { Os: about.os }),
  ...(about.version === undefined ? {} : { Version: about.version }),
  CreatedAt: new Date(createdAt),
  ExpiresAt: new Date(expiresAt),
});

const getLogin = defineOperation<z.infer<typeof byCode>, Resource>({
  name: "GetLogin",
  action: "rekey:CreateToken",
  noun: "cli-logins",
  verb: "get",
  mode: "read",
  summary: "Shows a waiting login by the code that its command line shows, to those who may say yes to it.",
  input: byCode,
  resource: (_input, call) => ownUser(call),
  async run({ Code }, _found, { sql, services }) {
    const login = await findLogin(sql, Code, services.now());
    if (!login) throw new ServiceError("ResourceNotFoundException", `No login with code ${Code} is waiting.`);
    return shown(login);
  },
});

const approveInput = z.object({ ...byCode.shape, Approve: z.boolean().default(true) });

const approveLogin = defineOperation<z.infer<typeof approveInput>, Resource>({
  name: "ApproveLogin",
  action: "rekey:CreateToken",
  noun: "cli-logins",
  verb: "approve",
  mode: "write",
  summary: "Says yes, or no, to a waiting login: it gets a token with all rights of the caller.",
  input: approveInput,
  resource: (_input, call) => ownUser(call),
  async run({ Code, Approve }, { arn }, call) {
    const state = Approve ? "approved" : "denied";
    await call.transaction(async (tx) => {
      if (!(await decideLogin(tx, Code, { state, principalArn: arn, nowMs: call.services.now() })))
        throw new ServiceError("ResourceNotFoundException", `No login with code ${Code} is waiting.`);
      await logActivity(tx, { ...actor(call), text: `${state} the login of a command line` });
    });
    return { Code, State: state };
  },
});

export const cliLoginOperations: readonly Operation[] = [beginLogin, pollLogin, getLogin, approveLogin];
