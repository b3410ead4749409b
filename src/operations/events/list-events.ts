import { z } from "zod";
import {
  type EventPosition,
  eventsAfter,
  eventsBefore,
  firstPosition,
  type ListedEvent,
  lastPosition,
} from "../../store/event-list.ts";
import type { Sql } from "../../store/sql.ts";
import { defineOperation, type Resource } from "../operation.ts";
import { invalidToken, readPageToken, writePageToken } from "../secrets/page-token.ts";

const input = z.object({
  /** Whole, or its beginning with a full stop at the end: `rotation.`. */
  Type: z.string().min(1).max(128).optional(),
  /** ARN. */
  Resource: z.string().min(1).max(2048).optional(),
  /** Begin with so many of the newest, instead of with the oldest. */
  Newest: z.int().min(0).max(1000).optional(),
  MaxResults: z.int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
});
type Input = z.infer<typeof input>;

/** One call looks at so many pages of events at most. */
const maxScans = 10;
const scanRows = 1000;

/** Events in the order in which they happened. The answer's cursor goes on behind the last one that was looked at, also when there are no more by now. */
export const listEventsOperation = defineOperation<Input, Resource>({
  name: "ListEvents",
  action: "rekey:ListEvents",
  noun: "events",
  verb: "list",
  mode: "read",
  summary: "Lists what changed, oldest first. Its cursor, always there, goes on with what comes later: none is lost or repeated.",
  input,
  resource: (_input, { region, account }) => ({ arn: `arn:aws:rekey:${region}:${account}:event/*`, context: {} }),
  async run(request, _found, { sql }) {
    const scope = `events ${request.Type ?? ""} ${request.Resource ?? ""}`;
    const { NextToken, Newest, MaxResults } = request;
    const wanted = matcher(request);
    const from = NextToken === undefined ? firstPosition : positionIn(NextToken, scope);
    const newest = NextToken === undefined ? Newest : undefined;
    const { events, position, more } =
      newest === undefined ? await onward(sql, wanted, MaxResults, from) : await tail(sql, wanted, newest);
    return {
      Events: events.map(shown),
      NextToken: writePageToken(scope, [position.txOrder, position.id]),
      More: more,
    };
  },
});

type Wanted = (event: ListedEvent) => boolean;

interface Read {
  readonly events: readonly ListedEvent[];
  /** Of the last event that was looked at. */
  readonly position: EventPosition;
  /** There may be more by now. */
  readonly more: boolean;
}

async function onward(sql: Sql, wanted: Wanted, most: number, from: EventPosition): Promise<Read> {
  const events: ListedEvent[] = [];
  let position = from;
  for (let scans = 0; scans < maxScans; scans++) {
    const page = await eventsAfter(sql, position, scanRows);
    const matches = page.filter(wanted).slice(0, most - events.length);
    events.push(...matches);
    const full = events.length === most;
    position = (full ? matches.at(-1) : page.at(-1)) ?? position;
    if (full || page.length < scanRows) return { events, position, more: full };
  }
  return { events, position, more: true };
}

async function tail(sql: Sql, wanted: Wanted, most: number): Promise<Read> {
  const events: ListedEvent[] = [];
  let position: EventPosition | undefined;
  let before = lastPosition(sql);
  for (let scans = 0; scans < maxScans && events.length < Math.max(most, 1); scans++) {
    const page = await eventsBefore(sql, before, scanRows);
    position ??= page[0];
    events.push(...page.filter(wanted).slice(0, most - events.length));
    before = page.at(-1) ?? before;
    if (most === 0 || page.length < scanRows) break;
  }
  return { events: events.reverse(), position: position ?? firstPosition, more: false };
}

function matcher({ Type, Resource }: Input): Wanted {
  return ({ type, resource }) => {
    if (Resource !== undefined && resource !== Resource) return false;
    if (Type === undefined) return true;
    return Type.endsWith(".") ? type.startsWith(Type) : type === Type;
  };
}

function positionIn(token: string, scope: string): EventPosition {
  const [txOrder, id] = readPageToken(token, scope);
  if (typeof txOrder !== "number" || typeof id !== "number") throw invalidToken();
  return { txOrder, id };
}

function shown({ id, at, type, resource, generation, detail }: ListedEvent) {
  return { EventId: id, Date: new Date(at), Type: type, Resource: resource, Generation: generation, Detail: detail };
}
