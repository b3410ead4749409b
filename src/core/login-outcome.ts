import type { OutcomeClass } from "./error.ts";

/** What a login that ended so means, and what would help. */
export interface LoginAdvice {
  readonly problem: string;
  readonly remedy: string;
}

/** What lets a function do its work in time. */
export const functionRouteText =
  "See that its network and the security groups on both sides let it reach the database and this server, and that its timeout is longer than the login takes.";

/** For whoever waits for a function that did not answer in time. */
export const functionTimeoutText =
  "The function timed out. Usually it cannot reach the database, or this server: check its network, the security groups on both sides, and that its timeout is longer than the login takes.";

const networkRemedy =
  "Check host and port, the route between the two networks, the security groups or firewalls on both sides, and whether the target runs.";

const byOutcome: Readonly<Record<Exclude<OutcomeClass, "ok">, LoginAdvice>> = {
  refused: {
    problem: "the target refuses the password",
    remedy:
      "It was changed outside: put the one that is in force as a new value, or have a rotation with a superuser set it again.",
  },
  locked: {
    problem: "the target has locked the user, or lets it not log in",
    remedy: "Let the user log in again at the target.",
  },
  expired: { problem: "the user or its password has expired at the target", remedy: "Extend the user's validity at the target." },
  unreachable: { problem: "the target cannot be reached", remedy: networkRemedy },
  timeout: { problem: "the target did not answer in time", remedy: networkRemedy },
  tls: {
    problem: "there is no verified TLS connection to the target",
    remedy: "Give the authority of the target's certificate in sslrootcert, or say ssl: false for a server without TLS.",
  },
  denied: {
    problem: "the target denies the login",
    remedy: "Give the rights that the target asks for: network rules, database, role.",
  },
  invalid: {
    problem: "the target cannot log this user in as configured",
    remedy: "Correct the value or the target as the reason says.",
  },
  unknown: {
    problem: "the connection ended before the answer",
    remedy: "Try again; if it stays so, look into the target's log.",
  },
};

/** What a login that did not end well means, and what to do about it. */
export function loginAdvice(outcome: Exclude<OutcomeClass, "ok">): LoginAdvice {
  return byOutcome[outcome];
}
