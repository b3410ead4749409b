import { z } from "zod";
import { invalidToken, readPageToken, writePageToken } from "../secrets/page-token.ts";

/** Either `MaxResults` and the `NextToken` of the page before, or the page's number: that repeats or leaves out rows when others change the list. */
export const paging = {
  MaxResults: z.int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
  Page: z.int().min(1).max(1_000_000).optional(),
  PerPage: z.int().min(1).max(1000).default(20),
};

interface Paging {
  readonly MaxResults: number;
  readonly NextToken?: string | undefined;
  readonly Page?: number | undefined;
  readonly PerPage: number;
}

interface Source<T> {
  /** What was asked: page tokens go with it. */
  readonly scope: string;
  /** Rows behind a key, in the order of keys. */
  fetch(page: { readonly after?: string; readonly skip: number; readonly limit: number }): Promise<readonly T[]>;
  key(row: T): string;
  /** Whether the caller may see it. Absent: all. */
  visible?(row: T): boolean;
}

const rowsAtOnce = 500;

/** A page of what the caller may see. */
export async function readPage<T>(request: Paging, source: Source<T>): Promise<{ rows: T[]; NextToken?: string }> {
  const { Page, PerPage, MaxResults, NextToken } = request;
  const limit = Page === undefined ? MaxResults : PerPage;
  const skip = Page === undefined ? 0 : (Page - 1) * PerPage;
  const after = Page === undefined && NextToken !== undefined ? keyIn(NextToken, source.scope) : undefined;
  const found = source.visible
    ? await visibleRows(source, source.visible, { after, skip, limit: limit + 1 })
    : await source.fetch({ ...(after !== undefined && { after }), skip, limit: limit + 1 });
  const rows = found.slice(0, limit);
  const last = found.length > limit && Page === undefined ? rows.at(-1) : undefined;
  return { rows, ...(last !== undefined && { NextToken: writePageToken(source.scope, [source.key(last)]) }) };
}

async function visibleRows<T>(
  { fetch, key }: Source<T>,
  visible: (row: T) => boolean,
  { after, skip, limit }: { after: string | undefined; skip: number; limit: number },
): Promise<T[]> {
  const found: T[] = [];
  let last = after;
  for (;;) {
    const page = await fetch({ ...(last !== undefined && { after: last }), skip: 0, limit: rowsAtOnce });
    for (const row of page) if (visible(row)) found.push(row);
    const final = page.at(-1);
    if (found.length >= skip + limit || page.length < rowsAtOnce || final === undefined) return found.slice(skip, skip + limit);
    last = key(final);
  }
}

function keyIn(token: string, scope: string): string {
  const [key] = readPageToken(token, scope);
  if (key === undefined) throw invalidToken();
  return String(key);
}
