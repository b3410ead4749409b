import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, RotatorError } from "../core/error.ts";
import type { FunctionCode } from "../store/function-code.ts";
import type { LambdaFunction } from "./lambda.ts";
import type { CodeSource, LambdaCode, RunningCode } from "./lambda-code.ts";
import type { FarStatus } from "./lambda-far.ts";
import type { LambdaReleases } from "./lambda-releases.ts";

export interface UpdateParts {
  readonly code: LambdaCode;
  /** Absent: this server was given none. */
  readonly releases: LambdaReleases | undefined;
  /** @throws RotatorError */
  probe(record: LambdaFunction): Promise<FarStatus>;
  /** Before new code is put in place: what is known and what goes back. False: somebody else has taken it up. */
  begin(known: CodeFound & { readonly former: Uint8Array }): Promise<boolean>;
}

type CodeFound = Omit<FunctionCode, "functionArn" | "lookedAt">;
/** As it was found; `former` is there when an update was begun and its end is not known. */
export type CodeKnown = CodeFound & { readonly former?: Uint8Array | undefined };

/** Newer code, and how it is told that it runs. */
interface Wanted {
  readonly sha256: string;
  /** What its status says; absent: not known of a signed package. */
  readonly build?: string | undefined;
  readonly version?: string | undefined;
  source(): Promise<CodeSource>;
  /** In a sentence: `release 1.2.0`. */
  readonly name: string;
}

const probes = 3;
const probeEveryMs = 2_000;

/**
 * Looks at the code that a function runs, and where Rekey may, puts newer code in place: the former code is kept first, and put
 * back when the function does not answer its status with the new one. May run again at any point, by `known.state`.
 */
export async function lookAtCode(parts: UpdateParts, record: LambdaFunction, known: CodeKnown): Promise<CodeKnown> {
  try {
    const running = await parts.code.running(record);
    // An update of somebody else's, or an earlier one of ours: its end is awaited.
    if (running.updating) return known;
    if (known.state === "updating" && known.former && running.sha256 === known.wanted)
      return await judge(parts, record, { runs: running.sha256, wanted: known.wanted, former: known.former });
    const status = await parts.probe(record);
    const wanted = await wantedOf(parts, record, status);
    if (!wanted)
      return { state: "current", runs: running.sha256, message: "this server has no release of its kind to compare with" };
    if (running.sha256 === wanted.sha256 || (wanted.build !== undefined && wanted.build === status.build))
      return { state: "current", runs: running.sha256, wanted: wanted.sha256 };
    // Nobody has flaws put back that were mended, by a release that was good once, or a server that is not updated yet.
    if (isNewer(status.version, wanted.version))
      return { state: "current", runs: running.sha256, message: `it is newer than ${wanted.name}, which this server has` };
    return await update(parts, record, { running, wanted, known });
  } catch (error) {
    if (!(error instanceof RotatorError) && !(error instanceof ConfigError)) throw error;
    if (known.state === "updating" && known.former) return { ...known, message: error.message };
    return { state: "unreachable", runs: known.runs, wanted: known.wanted, message: error.message };
  }
}

async function wantedOf({ releases }: UpdateParts, record: LambdaFunction, status: FarStatus): Promise<Wanted | undefined> {
  const { signedCode } = record.lambda;
  if (signedCode) {
    const { bucket, key, objectVersion, sha256 } = signedCode;
    return { sha256, source: async () => ({ bucket, key, objectVersion }), name: `s3://${bucket}/${key}` };
  }
  const release = await releases?.find(status.kinds?.[0] ?? "");
  if (!release || !releases) return undefined;
  const { sha256, build, version } = release;
  return { sha256, build, version, source: async () => ({ zip: await releases.zip(release) }), name: `release ${version}` };
}

/** By the numbers of both; what comes before a version of the same numbers counts as that. */
function isNewer(runs: string | undefined, than: string | undefined): boolean {
  const [own, other] = [runs, than].map((version) =>
    /^(\d+)\.(\d+)\.(\d+)/
      .exec(version ?? "")
      ?.slice(1)
      .map(Number),
  );
  const at = own?.findIndex((number, index) => number !== other?.[index]) ?? -1;
  return own !== undefined && other !== undefined && at >= 0 && (own[at] ?? 0) > (other[at] ?? 0);
}

interface Looked {
  readonly running: RunningCode;
  readonly wanted: Wanted;
  readonly known: CodeKnown;
}

async function update(parts: UpdateParts, record: LambdaFunction, { running, wanted, known }: Looked): Promise<CodeKnown> {
  const found = { runs: running.sha256, wanted: wanted.sha256 };
  if (!record.lambda.autoUpdate) return { ...found, state: "available", message: byHand(record, wanted) };
  // What did not work is not tried again before there is something newer, or somebody changes the function here.
  if (known.state === "failed" && known.wanted === wanted.sha256) return { ...known, runs: running.sha256 };
  let former: Uint8Array | undefined;
  try {
    const kept = await parts.code.download(record, running.sha256);
    const source = await wanted.source();
    if (!(await parts.begin({ ...found, state: "updating", former: kept }))) return known;
    former = kept;
    const after = await parts.code.replace(record, source, running.revision);
    const placed = { runs: after.sha256, wanted: wanted.sha256, former, build: wanted.build };
    if (after.problem !== undefined) return await back(parts, record, placed, `AWS says: ${after.problem}`);
    if (after.sha256 === wanted.sha256) return await judge(parts, record, placed);
    return await back(parts, record, placed, "it is not the code that was to be put in place");
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    // It may be in place by now: the next look finds out.
    if (former && !isRefusal(error)) return { ...found, state: "updating", former, message: error.message };
    return { ...found, state: "available", message: `${error.message} ${byHand(record, wanted)}` };
  }
}

/** AWS has said no: nothing was changed. */
const isRefusal = ({ outcome }: RotatorError): boolean => outcome === "denied" || outcome === "invalid";

interface Placed {
  readonly runs: string;
  readonly wanted: string;
  readonly former: Uint8Array;
  readonly build?: string | undefined;
}

/** Whether the function works with the code that was put in place; if not, what was there goes back. */
async function judge(parts: UpdateParts, record: LambdaFunction, placed: Placed): Promise<CodeKnown> {
  const { runs, wanted, build } = placed;
  let why = "";
  for (let left = probes; left > 0; left--) {
    try {
      const status = await parts.probe(record);
      if (build === undefined || status.build === build) return { state: "current", runs, wanted };
      why = "it does not run the code that was put in place";
    } catch (error) {
      if (!(error instanceof RotatorError)) throw error;
      why = error.message;
    }
    if (left > 1) await sleep(probeEveryMs);
  }
  return back(parts, record, placed, why);
}

async function back({ code }: UpdateParts, record: LambdaFunction, placed: Placed, why: string): Promise<CodeKnown> {
  const { wanted, former } = placed;
  const failed = `The newer code did not work: ${why}`;
  try {
    const { sha256 } = await code.replace(record, { zip: former });
    return { state: "failed", runs: sha256, wanted, message: `${failed} The former code runs again.` };
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    const message = `${failed} The former code could not be put back: ${error.message}`;
    if (!isRefusal(error)) return { state: "updating", runs: placed.runs, wanted, former, message };
    return { state: "failed", runs: placed.runs, wanted, message: `${message} Deploy a former package at AWS by hand.` };
  }
}

function byHand({ name, lambda }: LambdaFunction, wanted: Wanted): string {
  const place = lambda.signedCode ? "the package" : "its zip, signed where the function's code signing asks for it,";
  const how = `To update by hand: deploy ${place} at AWS (Lambda, Code, Upload from)`;
  const auto = `to let Rekey do it: rekey function update ${name} --auto-update, with lambda:GetFunction and lambda:UpdateFunctionCode for its role`;
  return `${wanted.name} is there. ${how}${lambda.autoUpdate ? "" : `; ${auto}`}.`;
}
