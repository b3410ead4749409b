/** What Doppler has and this server has not, and what there is instead: `[method, path pattern, what to do]`. */
const absent: readonly (readonly [method: RegExp, path: RegExp, text: string])[] = [
  [
    /./,
    /^\/v3\/(configs\/config\/syncs|integrations\/integration\/options)(\/|$)/,
    "Nothing is copied to other services here: let them fetch (this API, or AWS Secrets Manager's), have a webhook tell them of changes, or write values where they are wanted with rekey export.",
  ],
  [
    /^(POST|PUT|PATCH|DELETE)$/,
    /^\/v3\/(workplace|projects)\/roles(\/|$)/,
    "Roles are admin, collaborator, viewer and no_access; finer rights are policies: rekey policy create, rekey policy attach.",
  ],
  [
    /./,
    /^\/v3\/workplace\/invites(\/|$)/,
    "Nobody is invited here: rekey user create makes a user, rekey token create a token of theirs.",
  ],
  [
    /./,
    /^\/v3\/workplace\/change_request(_policie)?s(\/|$)/,
    "There are no change requests here: lock configs, and let policies say who may set secrets where.",
  ],
  [
    /./,
    /^\/v3\/(workplace\/)?integrations\/integration\/members(\/|$)/,
    "Integrations have no members here: policies say who may use them (rekey:UseIntegration).",
  ],
  [
    /./,
    /^\/v3\/workplace\/service_accounts\/service_account\/[^/]+\/identities(\/|$)/,
    "OIDC identities are kept with rekey service-account create-identity, list-identities, delete-identity; their tokens are given here.",
  ],
  [/./, /^\/v3\/me\/mfa_recovery$/, "There are no second factors here."],
];

/** Why there is no such endpoint, in words for who called it. */
export function absenceOf(method: string, url: string): string {
  const path = url.split("?")[0] ?? "";
  const known = absent.find(([methods, paths]) => methods.test(method) && paths.test(path));
  return known?.[2] ?? `There is no ${method} ${path.slice(0, 200)}.`;
}
