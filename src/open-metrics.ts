import type { Logger } from "pino";
import { listenForMetrics, type Metrics, type MetricsListener } from "./http/metrics.ts";
import type { Listen } from "./setting.ts";

/** The listener of `--metrics-listen`. */
export async function openMetrics(metrics: Pick<Metrics, "text">, listen: Listen, log: Logger): Promise<MetricsListener> {
  const scraped = await listenForMetrics(metrics, listen);
  log.info({ host: listen.host, port: scraped.port }, "metrics");
  return scraped;
}
