import { z } from "zod";
import { filterKeys, type SecretFilter } from "../../core/secret-filter.ts";
import { type Position, type SearchPage, type SearchRequest, type SortColumn, searchSecrets } from "../../store/secret-search.ts";
import { loadSecrets } from "../../store/secrets.ts";
import { nextToken } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { labelledVersions, shownSecret } from "./describe-secret.ts";
import { invalidToken, readPageToken, writePageToken } from "./page-token.ts";

/** Filters as AWS bounds them. Source: AWS Secrets Manager model, FiltersListType. */
export const filtersInput = z
  .array(
    z.object({
      Key: z.enum(filterKeys),
      Values: z
        .array(
          z
            .string()
            .max(512)
            .regex(/^!?[a-zA-Z0-9 :_@/+=.\-!]*$/),
        )
        .min(1)
        .max(10),
    }),
  )
  .max(10);

const input = z.object({
  IncludePlannedDeletion: z.boolean().optional(),
  MaxResults: z.number().int().min(1).max(100).optional(),
  NextToken: nextToken,
  Filters: filtersInput.optional(),
  SortOrder: z.enum(["asc", "desc"]).optional(),
  SortBy: z.enum(["created-date", "last-accessed-date", "last-changed-date", "name"]).optional(),
});
type Input = z.infer<typeof input>;

const columns: Record<NonNullable<Input["SortBy"]>, SortColumn> = {
  "created-date": "created_at",
  "last-accessed-date": "last_accessed_at",
  "last-changed-date": "last_changed_at",
  name: "name",
};

/** The secrets of a region, oldest first unless told otherwise. Source: AWS API reference, ListSecrets. */
export const listSecrets = defineOperation({
  name: "ListSecrets",
  action: "secretsmanager:ListSecrets",
  noun: "secrets",
  verb: "list",
  mode: "read",
  summary: "Lists secrets, filtered and sorted; never their values.",
  input,
  resource: () => ({ arn: "*", context: {} }),
  async run(request: Input, _found, call) {
    const page = await findPage(request, call);
    const secrets = await loadSecrets(call.sql, page.ids);
    return {
      SecretList: secrets.map((secret) => ({ ...shownSecret(secret), SecretVersionsToStages: labelledVersions(secret) })),
      NextToken: page.token,
    };
  },
});

export interface PageRequest extends Omit<Input, "MaxResults"> {
  readonly MaxResults?: number | undefined;
}

/** One page of row ids, and the token of the next. */
export async function findPage(request: PageRequest, call: Call): Promise<SearchPage & { token: string | undefined }> {
  const { IncludePlannedDeletion = false, MaxResults = 100, SortOrder = "asc", SortBy = "created-date", Filters = [] } = request;
  const filters: SecretFilter[] = Filters.map(({ Key, Values }) => ({ key: Key, values: Values }));
  const scope = JSON.stringify(["secrets", call.region, IncludePlannedDeletion, SortOrder, SortBy, filters]);
  const search: SearchRequest = {
    region: call.region,
    includeDeleted: IncludePlannedDeletion,
    sortBy: columns[SortBy],
    descending: SortOrder === "desc",
    limit: MaxResults,
    after: request.NextToken === undefined ? undefined : position(readPageToken(request.NextToken, scope), SortBy),
    namePrefix: namePrefix(filters),
    filters,
  };
  const page = await searchSecrets(call.sql, search);
  return { ...page, token: page.next && writePageToken(scope, page.next) };
}

function position([value, id]: readonly (string | number)[], sortBy: NonNullable<Input["SortBy"]>): Position {
  if (typeof id !== "string" || value === undefined || (typeof value === "string") !== (sortBy === "name")) throw invalidToken();
  return [value, id];
}

/** A filter on one name that does not exclude bounds the search by index. */
function namePrefix(filters: readonly SecretFilter[]): string | undefined {
  const only = filters.find(({ key, values }) => key === "name" && values.length === 1 && !values[0]?.startsWith("!"));
  return only?.values[0] || undefined;
}
