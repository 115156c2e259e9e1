// Requests that fall due at a constant rate, whatever the service does. bench/kit/k6.py sets the environment.
import http from "k6/http";
import { Counter } from "k6/metrics";
import { SharedArray } from "k6/data";
import exec from "k6/execution";

const bodies = new SharedArray("bodies", () => open(__ENV.BODIES).split("\n").filter((line) => line.trim()));
const degraded = new Counter("degraded");
const headers = { "Content-Type": "application/json" };

function arrivals(start, seconds) {
  return {
    executor: "constant-arrival-rate",
    rate: Math.max(Math.round(Number(__ENV.RATE) * 1000), 1),
    timeUnit: "1000s",
    startTime: `${start}ms`,
    duration: `${Math.round(seconds * 1000)}ms`,
    preAllocatedVUs: Number(__ENV.CONNECTIONS),
    maxVUs: Number(__ENV.CONNECTIONS),
    gracefulStop: "10s",
  };
}

const warmup = Number(__ENV.WARMUP);
const scenarios = { measured: arrivals(Math.round(warmup * 1000), Number(__ENV.SECONDS)) };
if (warmup > 0) {
  scenarios.warmup = arrivals(0, warmup);
}

// A threshold is what makes k6 keep figures of the measured window apart; these always hold.
const kept = {};
for (const name of ["http_req_duration", "http_reqs", "http_req_failed", "dropped_iterations", "degraded"]) {
  kept[`${name}{scenario:measured}`] = [];
}
kept["http_req_duration{scenario:measured,expected_response:true}"] = [];

export const options = {
  scenarios,
  thresholds: kept,
  summaryTrendStats: ["p(50)", "p(90)", "p(99)", "p(99.9)", "max", "count"],
};

export default function () {
  const body = bodies[exec.scenario.iterationInTest % bodies.length];
  const answer = http.post(__ENV.URL, body, { headers });
  const text = answer.body || "";
  const whole = text.includes('"degraded":[]') && text.includes('"served_by":"ranking"');
  if (answer.status === 200 && text.includes('"degraded":[') && !whole) {
    degraded.add(1);
  }
}

export function handleSummary(data) {
  return { [__ENV.SUMMARY]: JSON.stringify(data.metrics) };
}
