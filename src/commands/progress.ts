/**
 * Runs long work and says on standard error what it is and for how long it has been going on: only to people, that is on a
 * terminal, where the line is gone at the end.
 */
export async function withProgress<T>(what: string, work: () => Promise<T>): Promise<T> {
  const { stderr } = process;
  if (!stderr.isTTY) return work();
  const startedAt = Date.now();
  const draw = () => stderr.write(`\r\u001B[2K${what} … ${Math.round((Date.now() - startedAt) / 1000)} s`);
  draw();
  const timer = setInterval(draw, 1000);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    stderr.write("\r\u001B[2K");
  }
}
