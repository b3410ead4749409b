/** One HTTP/1.1 request as `node:http` gives it: one character a byte in `path`, `query` and header values, header names in lower case. */
export interface SignedRequest {
  readonly method: string;
  /** As on the request line, still percent-encoded, without the query. */
  readonly path: string;
  /** As on the request line, without the `?`; empty when there is none. */
  readonly query: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** Names and values in turn, as received: tells a header sent twice from one that holds a comma. */
  readonly rawHeaders?: readonly string[];
  readonly body: Uint8Array;
}

const blanks = /[\t-\r ]+/g;
const untidy = /^[\t-\r ]|[\t-\r ]$|[\t-\r]|[ ]{2}/;
const reserved = /[^A-Za-z0-9\-._~]/g;
const reservedInPath = /[^A-Za-z0-9\-._~/]/g;
const notAscii = /[\u0080-\uffff]/;

/**
 * What a signature is made over, one character a byte; `undefined` when a signed header is not in the request.
 * `bodyHash` is the body's SHA-256 in lower-case hex.
 * Source: AWS General Reference, "Create a signed AWS API request", step 1.
 */
export function canonicalRequest(request: SignedRequest, signedHeaders: readonly string[], bodyHash: string): string | undefined {
  let headers = "";
  for (const name of signedHeaders) {
    const value = headerValue(request, name);
    if (value === undefined) return undefined;
    headers += `${name}:${value}\n`;
  }
  const path = canonicalPath(request.path);
  const query = canonicalQuery(request.query);
  return `${request.method}\n${path}\n${query}\n${headers}\n${signedHeaders.join(";")}\n${bodyHash}`;
}

/** The bytes of a text that holds one character a byte, in the form that hashes fastest. */
export function byteText(text: string): string | Uint8Array {
  return notAscii.test(text) ? Buffer.from(text, "latin1") : text;
}

function headerValue({ headers, rawHeaders }: SignedRequest, name: string): string | undefined {
  if (!Object.hasOwn(headers, name)) return undefined;
  const value = headers[name];
  if (typeof value !== "string") return value?.map(tidy).join(",");
  if (!rawHeaders || !value.includes(", ")) return tidy(value);
  const received = rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name);
  return received.length > 1 ? received.map(tidy).join(",") : tidy(value);
}

/** Only ASCII blanks count: U+00A0 may be half of a UTF-8 character here. */
function tidy(value: string): string {
  return untidy.test(value) ? value.replace(blanks, " ").replace(/^ | $/g, "") : value;
}

/** Dot segments and doubled slashes removed, then every byte but the unreserved ones encoded once more, as all services but S3 do. */
function canonicalPath(path: string): string {
  if (path === "/" || path === "") return "/";
  const kept: string[] = [];
  for (const segment of path.split("/")) {
    if (segment === "..") kept.pop();
    else if (segment !== "" && segment !== ".") kept.push(segment);
  }
  const end = path.endsWith("/") && kept.length > 0 ? "/" : "";
  return `/${kept.join("/")}${end}`.replace(reservedInPath, percent);
}

/** Parameters decoded, encoded in one way and sorted by name, then value. `+` is itself: signers send a blank as `%20`. */
function canonicalQuery(query: string): string {
  if (query === "") return "";
  const parameters: [name: string, value: string][] = [];
  for (const piece of query.split("&")) {
    if (piece === "") continue;
    const equals = piece.indexOf("=");
    const name = equals < 0 ? piece : piece.slice(0, equals);
    parameters.push([encodeParameter(name), equals < 0 ? "" : encodeParameter(piece.slice(equals + 1))]);
  }
  parameters.sort(([nameA, valueA], [nameB, valueB]) => compare(nameA, nameB) || compare(valueA, valueB));
  return parameters.map(([name, value]) => `${name}=${value}`).join("&");
}

function encodeParameter(text: string): string {
  const decoded = text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return decoded.replace(reserved, percent);
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
