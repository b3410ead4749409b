import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestCounts } from "../../src/http/request-counts.ts";

test("counts and histograms in the form that Prometheus reads", () => {
  const counts = new RequestCounts();
  counts.add("aws-json", "GetSecretValue", "ok", 0.0005);
  counts.add("aws-json", "GetSecretValue", "ok", 0.002);
  counts.add("aws-json", "GetSecretValue", "ResourceNotFoundException", 30);
  counts.add("http", "unknown", "HTTP 431");
  const lines = counts.text().split("\n");
  const labels = 'door="aws-json",operation="GetSecretValue"';
  for (const line of [
    "# TYPE rekey_requests_total counter",
    `rekey_requests_total{${labels},outcome="ok"} 2`,
    `rekey_requests_total{${labels},outcome="ResourceNotFoundException"} 1`,
    'rekey_requests_total{door="http",operation="unknown",outcome="HTTP 431"} 1',
    "# TYPE rekey_request_duration_seconds histogram",
    `rekey_request_duration_seconds_bucket{${labels},le="0.0005"} 1`,
    `rekey_request_duration_seconds_bucket{${labels},le="0.001"} 1`,
    `rekey_request_duration_seconds_bucket{${labels},le="0.0025"} 2`,
    `rekey_request_duration_seconds_bucket{${labels},le="10"} 2`,
    `rekey_request_duration_seconds_bucket{${labels},le="+Inf"} 3`,
    `rekey_request_duration_seconds_sum{${labels}} 30.0025`,
    `rekey_request_duration_seconds_count{${labels}} 3`,
  ])
    assert.ok(lines.includes(line), line);
  assert.doesNotMatch(counts.text(), /duration_seconds_\w+\{door="http"/);
  assert.ok(counts.text().endsWith("\n"));
});
