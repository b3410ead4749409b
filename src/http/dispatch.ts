import type { AuditRecord } from "../core/audit.ts";
import { ServiceError } from "../core/error.ts";
import type { Principal } from "../core/principal.ts";
import type { RequestFacts } from "../core/request-context.ts";
import { parseInput } from "../operations/input.ts";
import type { Call, Operation, Resource } from "../operations/operation.ts";
import type { Services } from "../operations/services.ts";
import type { DoorName } from "./request-counts.ts";
import type { RequestRate } from "./request-rate.ts";

/** One request as a door hands it over, whatever its wire form was. */
export interface ApiRequest {
  readonly door: DoorName;
  readonly requestId: string;
  readonly sourceIp: string;
  readonly userAgent: string;
  readonly secure: boolean;
  /** Who calls, and in which region. @throws ServiceError when that cannot be told. */
  authenticate(): Identified | Promise<Identified>;
  /** What is asked. @throws ServiceError UnknownOperationException */
  operation(): Operation;
  /** The input in AWS's member names. @throws ServiceError SerializationException */
  body(): unknown;
  /** Aborted when the caller is gone; made when it is asked for. */
  readonly signal?: AbortSignal;
  /** Told how many requests the caller may send in a second, and how many of this one there are. */
  counted?(maxPerSecond: number, count: number, atMs: number): void;
  /** Told what the call acts on, once it may: for answers that go on, and look again whether they may. */
  allowed?(principal: Principal, resource: Resource): void;
}

export interface Identified {
  readonly principal: Principal;
  readonly region: string;
}

export interface Api {
  readonly services: Services;
  authorize(principal: Principal, action: string, resource: Resource, facts: RequestFacts): ServiceError | undefined;
  /** Absent: no bound. */
  readonly rate?: RequestRate;
  /** Told of every answer. */
  count?(door: DoorName, operation: string, outcome: string, seconds: number): void;
}

/** The way of every request, whichever door it came by. Nothing is answered before its audit record is durable. */
export async function dispatch(request: ApiRequest, api: Api): Promise<object> {
  const journal = new Journal(request, api);
  try {
    const { principal, region } = await request.authenticate(); // who
    journal.identify(principal, region);
    // Strangers are told apart by where they are, so that none of them uses up what is left for the others.
    if (api.rate) count(api.rate, principal.kind === "anonymous" ? request.sourceIp : principal.arn, journal.at, request);
    const operation = request.operation(); // what
    journal.name(operation);
    const input = parseInput(operation, request.body()); // its shape
    journal.describe(operation, input);
    const call = new RunningCall(request, api, { principal, region }, journal);
    const found = await operation.resource(input, call); // on what
    journal.locate(found.arn);
    authorize(call, operation, input, found); // may they
    request.allowed?.(principal, found);
    const output = await operation.run(input, found, call); // do it
    await journal.close("ok", operation.isIdle?.(output));
    return output;
  } catch (error) {
    const failure = refusal(toServiceError(error, request, api.services), request, api, journal);
    await journal.close(failure.code);
    throw failure;
  }
}

/** @throws ServiceError ThrottlingException beyond the bound */
function count(rate: RequestRate, caller: string, atMs: number, request: ApiRequest): void {
  const counted = rate.countCaller(caller, atMs);
  request.counted?.(rate.maxPerSecond, counted, atMs);
  if (counted > rate.maxPerSecond) throw new ServiceError("ThrottlingException", "Rate exceeded");
}

/** A stranger is told no more than that, once too many came from the address. Who has good credentials never is one. */
function refusal(failure: ServiceError, { sourceIp }: ApiRequest, { rate }: Api, journal: Journal): ServiceError {
  if (rate === undefined || journal.isIdentified || failure.code === "InternalServiceError") return failure;
  return rate.isFlood(sourceIp, journal.at) ? new ServiceError("ThrottlingException", "Rate exceeded") : failure;
}

function authorize(call: Call, operation: Operation, input: unknown, found: Resource): void {
  if (operation.action === undefined && call.principal.agent)
    throw new ServiceError("AccessDeniedException", `An agent may not call ${operation.name}.`);
  const refusal = operation.action === undefined ? undefined : call.may(operation.action, found);
  if (refusal) throw refusal;
  for (const { action, resource } of operation.permissions?.(input, found, call) ?? []) {
    const further = call.may(action, resource);
    if (further) throw further;
  }
}

/** A class: an object literal with a getter among its members is several times slower to make, and to read from. */
class RunningCall implements Call {
  readonly principal: Principal;
  readonly region: string;
  readonly account: string;
  readonly requestId: string;
  readonly sourceIp: string;
  readonly userAgent: string;
  readonly secure: boolean;
  readonly startedAt: number;
  readonly services: Services;
  readonly sql: Services["sql"];
  readonly #request: ApiRequest;
  readonly #authorize: Api["authorize"];
  readonly #journal: Journal;
  readonly #facts: RequestFacts;

  // Fields: they are also passed on by themselves.
  readonly transaction: Call["transaction"] = (work) =>
    this.sql.transaction(async (tx) => {
      const result = await work(tx);
      await this.#journal.commitWith(tx);
      return result;
    });
  readonly may: Call["may"] = (action, resource) => this.#authorize(this.principal, action, resource, this.#facts);
  readonly describe: Call["describe"] = (more) => this.#journal.add(more);
  readonly note: Call["note"] = (...noted) => this.#journal.note(...noted);

  constructor(request: ApiRequest, { services, authorize }: Api, { principal, region }: Identified, journal: Journal) {
    const { requestId, sourceIp, userAgent, secure } = request;
    const now = services.now();
    this.principal = principal;
    this.region = region;
    this.account = services.account;
    this.requestId = requestId;
    this.sourceIp = sourceIp;
    this.userAgent = userAgent;
    this.secure = secure;
    this.startedAt = now;
    this.services = services;
    this.sql = services.sql;
    this.#request = request;
    this.#authorize = authorize;
    this.#journal = journal;
    this.#facts = { sourceIp, userAgent, secure, region, now };
  }

  get signal(): AbortSignal | undefined {
    return this.#request.signal;
  }
}

/** Anything but a ServiceError is a bug: its stack goes to the log, its request id to the caller. */
function toServiceError(error: unknown, request: ApiRequest, { log }: Services): ServiceError {
  if (error instanceof ServiceError) {
    if (error.cause !== undefined) log.warn({ requestId: request.requestId, code: error.code, err: error.cause }, error.message);
    return error;
  }
  logBug(error, request.requestId, log);
  return new ServiceError("InternalServiceError", `An error occurred on the server side. Request id: ${request.requestId}`, {
    cause: error,
  });
}

/** What a door caught that is no refusal: dispatch has told of its own. */
export function logBug(error: unknown, requestId: string, log: Services["log"]): void {
  if (!(error instanceof ServiceError)) log.error({ requestId, err: error }, "internal error");
}

/** The audit records of one call while it runs. */
class Journal {
  readonly at: number;
  readonly #startedAt = performance.now();
  readonly #request: ApiRequest;
  readonly #api: Api;
  #principal: Principal | undefined;
  #region = "";
  #operation = "unknown";
  #action = "unknown";
  #resource = "*";
  #parameters: object = {};
  #committed = false;
  readonly #notes: AuditRecord[] = [];

  constructor(request: ApiRequest, api: Api) {
    this.#request = request;
    this.#api = api;
    this.at = api.services.now();
  }

  get isIdentified(): boolean {
    return this.#principal !== undefined && this.#principal.kind !== "anonymous";
  }

  identify(principal: Principal, region: string): void {
    this.#principal = principal;
    this.#region = region;
  }

  name(operation: Operation): void {
    this.#operation = operation.name;
    this.#action = operation.action ?? `rekey:${operation.name}`;
  }

  describe(operation: Operation, input: unknown): void {
    this.#parameters = withoutValues(operation.sensitive, input as object);
  }

  add(more: object): void {
    this.#parameters = { ...this.#parameters, ...more };
  }

  locate(arn: string): void {
    this.#resource = arn;
  }

  note(action: string, resource: string, outcome: string, parameters: object): void {
    this.#notes.push(this.#record(action, resource, outcome, parameters));
  }

  /** Puts the record of success into the transaction of the change, so that neither is there without the other. */
  async commitWith(tx: Parameters<Services["audit"]["inTransaction"]>[0]): Promise<void> {
    await this.#api.services.audit.inTransaction(tx, this.#record(this.#action, this.#resource, "ok", this.#parameters));
    this.#committed = true;
  }

  async close(outcome: string, isIdle = false): Promise<void> {
    if (outcome !== "ok") this.#count(outcome); // first: this failure is counted also when it cannot be put on record
    if (!isIdle && this.#isOnRecord(outcome)) await this.#append(outcome);
    if (outcome === "ok") this.#count(outcome);
  }

  #count(outcome: string): void {
    this.#api.count?.(this.#request.door, this.#operation, outcome, (performance.now() - this.#startedAt) / 1000);
  }

  #isOnRecord(outcome: string): boolean {
    const { rate } = this.#api;
    if (rate === undefined) return true;
    const { sourceIp } = this.#request;
    if (outcome === "ThrottlingException") return rate.isFirstRefusal(this.#principal?.arn ?? sourceIp, this.at);
    return this.isIdentified || rate.isRecorded(sourceIp, this.at);
  }

  #append(outcome: string): Promise<unknown> {
    const own =
      this.#committed && outcome === "ok" ? [] : [this.#record(this.#action, this.#resource, outcome, this.#parameters)];
    const records = [...this.#notes, ...own];
    const { audit } = this.#api.services;
    return records.length === 1 && records[0]
      ? audit.append(records[0])
      : Promise.all(records.map((record) => audit.append(record)));
  }

  #record(action: string, resource: string, outcome: string, parameters: object): AuditRecord {
    const { requestId, sourceIp, userAgent } = this.#request;
    const key = this.#principal?.accessKeyId;
    return {
      requestId,
      at: this.at,
      principal: this.#principal?.arn ?? "anonymous",
      ...(key === undefined ? {} : { accessKeyId: key }),
      action,
      resource,
      region: this.#region,
      sourceIp,
      userAgent: userAgent.slice(0, 256),
      parameters,
      outcome,
    };
  }
}

function withoutValues(sensitive: readonly string[] | undefined, input: object): object {
  if (!sensitive || sensitive.length === 0) return input;
  return Object.fromEntries(Object.entries(input).filter(([name]) => !sensitive.includes(name)));
}
