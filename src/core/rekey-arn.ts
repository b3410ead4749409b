import { formatArn } from "./arn.ts";

/** Where a deployment's own resources are: its region and account. */
export interface Place {
  readonly region: string;
  readonly account: string;
}

const ownArn = ({ region, account }: Place, resource: string): string =>
  formatArn({ partition: "aws", service: "rekey", region, accountId: account, resource });

export const projectArn = (place: Place, project: string): string => ownArn(place, `project/${project}`);
export const environmentArn = (place: Place, project: string, environment: string): string =>
  ownArn(place, `environment/${project}/${environment}`);
export const configArn = (place: Place, project: string, config: string): string => ownArn(place, `config/${project}/${config}`);
export const rotatedSecretArn = (place: Place, project: string, config: string, name: string): string =>
  ownArn(place, `rotated-secret/${project}/${config}/${name}`);
export const dynamicSecretArn = (place: Place, project: string, config: string, name: string): string =>
  ownArn(place, `dynamic-secret/${project}/${config}/${name}`);
/** Below the dynamic secret that it came from, so that one pattern names all of them. */
export const leaseArn = (place: Place, project: string, config: string, name: string, id: string): string =>
  ownArn(place, `lease/${project}/${config}/${name}/${id}`);
export const integrationArn = (place: Place, id: string): string => ownArn(place, `integration/${id}`);
/** Who manages the users of a rotated secret, by that one's id. */
export const managingUserArn = (place: Place, id: string): string => ownArn(place, `managing-user/${id}`);
export const webhookArn = (place: Place, project: string, id: string): string => ownArn(place, `webhook/${project}/${id}`);
export const workplaceArn = (place: Place): string => ownArn(place, "workplace");
export const serviceTokenArn = (place: Place, id: string): string => ownArn(place, `service-token/${id}`);
export const agentArn = (place: Place, id: string): string => ownArn(place, `agent/${id}`);
export const agentEnrolmentArn = (place: Place, id: string): string => ownArn(place, `agent-enrolment/${id}`);
export const signingKeysArn = (place: Place): string => ownArn(place, "signing-key/*");
export const networkArn = (place: Place, name: string): string => ownArn(place, `network/${name}`);
