import {
  CancelRotateSecretCommand,
  CreateSecretCommand,
  DescribeSecretCommand,
  GetSecretValueCommand,
  RotateSecretCommand,
  type RotateSecretCommandInput,
  SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import type { RekeyServer } from "../../test/support/rekey-server.ts";
import type { Credential } from "./database.ts";

export interface Version {
  readonly id: string;
  readonly credential: Credential;
}

/** Rekey as applications see it: through the AWS SDK, which knows nothing of Rekey but its address. */
export class Vault {
  readonly #client: SecretsManagerClient;
  readonly #functions: string;

  constructor({ endpoint, credentials }: RekeyServer) {
    const { accessKeyId, secretAccessKey, region, account } = credentials;
    this.#client = new SecretsManagerClient({ endpoint, region, credentials: { accessKeyId, secretAccessKey } });
    this.#functions = `arn:aws:lambda:${region}:${account}:function:`;
  }

  /** Stores a credential under a new name; the secret's ARN. */
  async store(name: string, credential: Credential): Promise<string> {
    const { ARN } = await this.#client.send(new CreateSecretCommand({ Name: name, SecretString: JSON.stringify(credential) }));
    return ARN ?? "";
  }

  async read(name: string): Promise<Version> {
    const { SecretString, VersionId } = await this.#client.send(new GetSecretValueCommand({ SecretId: name }));
    return { id: VersionId ?? "", credential: JSON.parse(SecretString ?? "") };
  }

  /** RotateSecret with the built-in function of that name; the id of the version that is to become current. */
  async rotate(name: string, functionName: string, more: Partial<RotateSecretCommandInput> = {}): Promise<string> {
    const { VersionId } = await this.#client.send(
      new RotateSecretCommand({ SecretId: name, RotationLambdaARN: `${this.#functions}${functionName}`, ...more }),
    );
    return VersionId ?? "";
  }

  async stopSchedule(name: string): Promise<void> {
    await this.#client.send(new CancelRotateSecretCommand({ SecretId: name }));
  }

  /** Ids of the versions that bear AWSCURRENT and AWSPENDING. */
  async labels(name: string): Promise<{ current: string | undefined; pending: string | undefined }> {
    const { VersionIdsToStages = {} } = await this.#client.send(new DescribeSecretCommand({ SecretId: name }));
    const holder = (label: string) => Object.keys(VersionIdsToStages).find((id) => VersionIdsToStages[id]?.includes(label));
    return { current: holder("AWSCURRENT"), pending: holder("AWSPENDING") };
  }

  close(): void {
    this.#client.destroy();
  }
}
