// A rotation function without dependencies that keeps the contract, or breaks it in the one way that FAULT names.
const { SECRETS_MANAGER_ENDPOINT, AWS_SESSION_TOKEN, FAULT } = process.env;
const is = (name) => FAULT === name;

async function secrets(operation, input) {
  const response = await fetch(SECRETS_MANAGER_ENDPOINT, {
    method: "POST",
    headers: {
      "x-amz-security-token": AWS_SESSION_TOKEN,
      "x-amz-target": `secretsmanager.${operation}`,
      "content-type": "application/x-amz-json-1.1",
    },
    body: JSON.stringify(input),
  });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.Message), { name: answer.__type });
  return answer;
}

export async function handler({ Step, SecretId, ClientRequestToken: token }) {
  const step = { createSecret, setSecret, testSecret, finishSecret }[Step];
  if (!step) {
    if (is("any step")) return;
    throw new Error("no such step");
  }
  const { VersionIdsToStages: versions } = await secrets("DescribeSecret", { SecretId });
  const stages = versions[token] ?? [];
  if (!is("labels not looked at")) {
    if (stages.includes("AWSCURRENT") && !is("finish once")) return;
    if (!stages.includes("AWSPENDING")) throw new Error("not pending");
  }
  await step(SecretId, token, versions);
}

async function createSecret(SecretId, token) {
  if (!is("value made anew") && (await read(SecretId, { VersionId: token }))) return;
  const current = await read(SecretId, { VersionStage: "AWSCURRENT" });
  const { RandomPassword: password } = await secrets("GetRandomPassword", { ExcludePunctuation: true });
  const SecretString = JSON.stringify({ ...current, password });
  if (is("value logged")) console.log("made", SecretString);
  const again = is("value made anew") && (await read(SecretId, { VersionId: token }));
  const ClientRequestToken = is("token ignored") || again ? crypto.randomUUID() : token;
  const VersionStages = [is("current at once") ? "AWSCURRENT" : "AWSPENDING"];
  await secrets("PutSecretValue", { SecretId, ClientRequestToken, SecretString, VersionStages }).catch(async (error) => {
    if (error.name !== "ResourceExistsException" || !(await read(SecretId, { VersionId: token }))) throw error;
  });
}

async function setSecret(SecretId, token, versions) {
  const pending = await readPending(SecretId, token);
  if (!is("set once") && (await logsIn(pending))) return;
  const previous = Object.keys(versions).find((id) => versions[id].includes("AWSPREVIOUS"));
  const older = [await read(SecretId, { VersionStage: "AWSCURRENT" })];
  if (previous && !is("set once")) older.push(await read(SecretId, { VersionId: previous }));
  for (const credential of older) {
    if (!credential || !(await logsIn(credential))) continue;
    await ask(credential, "PUT", "/password", JSON.stringify({ password: pending.password }));
    return;
  }
  if (is("no answer is a refusal")) return console.log("no login is accepted: nothing to change");
  throw new Error(`nothing logs in${is("value in an error") ? ` with ${pending.password}` : ""}`);
}

async function testSecret(SecretId, token) {
  const pending = await readPending(SecretId, token);
  if (is("nothing tested")) return;
  if (!(await logsIn(pending))) throw new Error(`refused${is("value in an error") ? `: ${pending.password}` : ""}`);
}

async function finishSecret(SecretId, token, versions) {
  await readPending(SecretId, token);
  const current = Object.keys(versions).find((id) => versions[id].includes("AWSCURRENT"));
  if (is("finish once") && current === token) throw new Error("finished already");
  const move = { VersionStage: "AWSCURRENT", MoveToVersionId: token, RemoveFromVersionId: current };
  await secrets("UpdateSecretVersionStage", { SecretId, ...move });
}

async function read(SecretId, which) {
  try {
    return JSON.parse((await secrets("GetSecretValue", { SecretId, ...which })).SecretString);
  } catch (error) {
    if (error.name === "ResourceNotFoundException") return undefined;
    throw error;
  }
}

async function readPending(SecretId, token) {
  const pending = await read(SecretId, { VersionId: token });
  if (pending) return pending;
  if (is("current for pending")) return read(SecretId, { VersionStage: "AWSCURRENT" });
  throw new Error("no value");
}

async function logsIn(credential) {
  try {
    const { status } = await ask(credential, "GET", "/login");
    if (status === 200 || status === 401) return status === 200;
    throw new Error(`answered ${status}`);
  } catch (error) {
    if (is("no answer is a refusal")) return false;
    throw error;
  }
}

function ask({ url, username, password }, method, path, body) {
  const authorization = `Basic ${btoa(`${username}:${password}`)}`;
  const signal = is("no timeout") ? undefined : AbortSignal.timeout(1_500);
  return fetch(new URL(path, url), { method, headers: { authorization }, body, signal });
}
