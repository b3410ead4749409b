// Agents that have nothing to do, all in one process: each polls as `rekey agent` does, and begins anew when a poll ends.
import { Agent, request } from "node:http";

export interface IdleJob {
  readonly port: number;
  /** One for each agent. */
  readonly tokens: readonly string[];
  /** Id of the server's signing key, which agents know. */
  readonly kid: string;
}

/** What was seen until now, in answer to any message after the first. */
export interface IdleSeen {
  readonly answered: number;
  /** Polls under way. */
  readonly waiting: number;
  /** What went wrong first, if anything did. */
  readonly failure: string | undefined;
}

/** As agents do, so that those of many spread. */
const pollSeconds = { least: 30, most: 50 };
/** First polls are spread over this time. */
const arrivalMs = 10_000;

const connections = new Agent({ keepAlive: true });
let [answered, waiting] = [0, 0];
let failure: string | undefined;

process.once("message", (job: IdleJob) => {
  for (const token of job.tokens) setTimeout(() => void pollOn(job, token), Math.random() * arrivalMs);
  process.on("message", () => process.send?.({ answered, waiting, failure } satisfies IdleSeen));
});
process.on("disconnect", () => process.exit(0));

async function pollOn(job: IdleJob, token: string): Promise<void> {
  try {
    for (;;) {
      waiting += 1;
      const { status, text } = await poll(job, token);
      waiting -= 1;
      answered += 1;
      if (status !== 200 || !text.startsWith('{"jobs":[],')) throw new Error(`${status} ${text}`);
    }
  } catch (error) {
    failure ??= String(error);
  }
}

function poll({ port, kid }: IdleJob, token: string): Promise<{ status: number; text: string }> {
  const { least, most } = pollSeconds;
  const waitSeconds = least + Math.floor(Math.random() * (most - least + 1));
  const kinds = ["postgres", "mysql", "redis"];
  const body = JSON.stringify({ version: "0.1.0", kinds, most: 8, waitSeconds, clockSkewMs: 3, knownKeys: [kid], holding: [] });
  const headers = {
    authorization: `Bearer ${token}`,
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
  };
  return new Promise((resolve, reject) => {
    const options = { port, host: "127.0.0.1", path: "/rekey/v1/agents/poll", method: "POST", headers, agent: connections };
    const asked = request(options, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, text })).on("error", reject);
    });
    asked.on("error", reject).end(body);
  });
}
