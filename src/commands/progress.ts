/**
 * Runs long work and says on standard error what it is and for how long it has been going on: only to people, that is on a
 * terminal, where the line is gone at the end. `afterMs`: nothing is said of what takes less.
 */
export async function withProgress<T>(what: string, work: () => Promise<T>, afterMs = 0): Promise<T> {
  const { stderr } = process;
  if (!stderr.isTTY) return work();
  const startedAt = Date.now();
  let isDrawn = false;
  const draw = () => {
    isDrawn = true;
    stderr.write(`\r\u001B[2K${what} … ${Math.round((Date.now() - startedAt) / 1000)} s`);
  };
  if (afterMs === 0) draw();
  const timer = setInterval(draw, Math.max(afterMs, 1000));
  try {
    return await work();
  } finally {
    clearInterval(timer);
    if (isDrawn) stderr.write("\r\u001B[2K");
  }
}
