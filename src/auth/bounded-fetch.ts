const maxBytes = 256 * 1024;

/** Plain http goes to this machine only. */
export function isSafeUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === "https:" || (protocol === "http:" && ["localhost", "127.0.0.1", "[::1]"].includes(hostname));
}

/**
 * GET with a deadline for the whole answer, at most 256 KiB of it, no redirects, and https outside this machine.
 * @throws Error when any of that does not hold.
 */
export function boundedFetch(timeoutMs: number) {
  return async (url: string, init: { headers?: Headers; signal?: AbortSignal } = {}): Promise<Response> => {
    if (!isSafeUrl(url)) throw new Error("an issuer must be asked over https");
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(url, {
      ...(init.headers ? { headers: init.headers } : {}),
      redirect: "error",
      signal: init.signal ? AbortSignal.any([signal, init.signal]) : signal,
    });
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of response.body ?? []) {
      size += chunk.byteLength;
      if (size > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
    return new Response(Buffer.concat(chunks), { status: response.status, headers: response.headers });
  };
}

/** @throws Error when the answer is not 200 with a JSON object. */
export async function fetchJson(fetch: ReturnType<typeof boundedFetch>, url: string): Promise<Record<string, unknown>> {
  const response = await fetch(url);
  if (response.status !== 200) throw new Error(`the answer has status ${response.status}`);
  const document: unknown = await response.json();
  if (typeof document !== "object" || document === null) throw new Error("the answer is not a JSON object");
  return document as Record<string, unknown>;
}
