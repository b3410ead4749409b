// A rotation function. Secrets Manager calls it four times for each rotation, once for each step, and again whenever an
// answer was lost or a step failed: every step may run twice, or be ended in the middle, and must end the same.
// What is yours to write stands at the end, under "The target".
import { SecretsManager } from "@aws-sdk/client-secrets-manager";

// Where the variable is not set, as at AWS, the SDK knows the address by itself.
const secrets = new SecretsManager({ endpoint: process.env.SECRETS_MANAGER_ENDPOINT });

const steps = { createSecret, setSecret, testSecret, finishSecret };

export async function handler({ Step, SecretId, ClientRequestToken: token }) {
  const step = Object.hasOwn(steps, Step) ? steps[Step] : undefined;
  if (!step) throw new Error(`there is no step ${Step}`);
  // First of all the labels: they say whether this version is still to be rotated to.
  const { VersionIdsToStages: versions = {} } = await secrets.describeSecret({ SecretId });
  const stages = versions[token];
  if (!stages) throw new Error(`the secret has no version ${token}`);
  if (stages.includes("AWSCURRENT")) return; // done before
  if (!stages.includes("AWSPENDING")) throw new Error(`version ${token} is not labelled AWSPENDING`);
  await step(SecretId, token, versions);
}

/** Makes the next value and stores it before anything else: whatever happens from here on, it is not lost. */
async function createSecret(SecretId, token) {
  if (await read(SecretId, token)) return; // made before: another one would leave two that might be in force
  const current = await readCurrent(SecretId);
  const { RandomPassword } = await secrets.getRandomPassword({ PasswordLength: 32, ExcludePunctuation: true });
  const SecretString = JSON.stringify({ ...current, password: RandomPassword });
  try {
    await secrets.putSecretValue({ SecretId, ClientRequestToken: token, SecretString, VersionStages: ["AWSPENDING"] });
  } catch (error) {
    // Another call of this step was faster: its value counts.
    if (error.name !== "ResourceExistsException" || !(await read(SecretId, token))) throw error;
  }
}

/** Puts the new value in force at the target, whichever one it takes now. */
async function setSecret(SecretId, token, versions) {
  const pending = await readPending(SecretId, token);
  if (await logsIn(pending)) return; // set before
  const previousId = Object.keys(versions).find((id) => versions[id].includes("AWSPREVIOUS"));
  const older = [await readCurrent(SecretId), previousId && (await read(SecretId, previousId, "AWSPREVIOUS"))];
  for (const credential of older) {
    if (!credential || !(await logsIn(credential))) continue;
    await changePassword(credential, pending.password);
    return;
  }
  throw new Error("the target takes none of the secret's passwords");
}

/** Uses the new value as its readers will. */
async function testSecret(SecretId, token) {
  if (!(await logsIn(await readPending(SecretId, token)))) throw new Error("the target does not take the new password");
}

/** Moves the label: from now on readers get the new value. */
async function finishSecret(SecretId, token, versions) {
  await readPending(SecretId, token);
  const current = Object.keys(versions).find((id) => versions[id].includes("AWSCURRENT"));
  await secrets.updateSecretVersionStage({
    SecretId,
    VersionStage: "AWSCURRENT",
    MoveToVersionId: token,
    RemoveFromVersionId: current,
  });
}

/** The value of a version; undefined when it has none. */
async function read(SecretId, VersionId, VersionStage = "AWSPENDING") {
  try {
    const { SecretString } = await secrets.getSecretValue({ SecretId, VersionId, VersionStage });
    return JSON.parse(SecretString);
  } catch (error) {
    if (error.name === "ResourceNotFoundException") return undefined;
    // What JSON.parse says quotes the value: it belongs in no log.
    throw error instanceof SyntaxError ? new Error("the secret's value is not JSON") : error;
  }
}

async function readPending(SecretId, token) {
  const pending = await read(SecretId, token);
  if (!pending) throw new Error(`version ${token} has no value: createSecret comes first`);
  return pending;
}

async function readCurrent(SecretId) {
  const { SecretString } = await secrets.getSecretValue({ SecretId, VersionStage: "AWSCURRENT" });
  try {
    return JSON.parse(SecretString);
  } catch {
    throw new Error("the secret's value is not JSON");
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The target: yours to write. As it stands it works with demo-target.mjs, an HTTP server with one user.
// The secret's value is {"url": "http://127.0.0.1:8400", "username": "app", "password": "…"}.

/** Longer than the target takes, and short enough that both logins fit into the function's timeout. */
const longestMs = 5_000;

/**
 * Whether the target takes this credential. Only a clear refusal is `false`: no answer, a broken connection or an error of the
 * target's own says nothing about the password, and must be thrown, so that the step is tried again later.
 */
async function logsIn(credential) {
  const { status } = await ask(credential, "GET", "/login");
  if (status === 200) return true;
  if (status === 401) return false;
  throw new Error(`the target answered ${status}`);
}

/** Replaces the password of the credential that the target takes now. */
async function changePassword(credential, password) {
  const { status } = await ask(credential, "PUT", "/password", JSON.stringify({ password }));
  if (status !== 204) throw new Error(`the target answered ${status}`);
}

/** One request; never write what is sent into a log. */
async function ask({ url, username, password }, method, path, body) {
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  return fetch(new URL(path, url), {
    method,
    headers: { authorization },
    body,
    redirect: "error",
    signal: AbortSignal.timeout(longestMs),
  });
}
