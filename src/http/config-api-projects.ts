import { anyText, flag, json, mapped, renamed, text } from "./config-api-input.ts";
import { type ConfigRoute, config, done, pageOf, paging, project, route } from "./config-api-route.ts";
import {
  activityOf,
  type ConfigOutput,
  configLogOf,
  configOf,
  type EnvironmentOutput,
  environmentOf,
  type LogOutput,
  type ProjectOutput,
  projectOf,
} from "./config-api-shapes.ts";

const oneProject = ({ Project }: { Project: ProjectOutput }) => ({ project: projectOf(Project) });
const oneEnvironment = ({ Environment }: { Environment: EnvironmentOutput }) => ({ environment: environmentOf(Environment) });
const oneConfig = ({ Config }: { Config: ConfigOutput }) => ({ config: configOf(Config) });
const oneLog = ({ Log }: { Log: LogOutput }) => ({ log: configLogOf(Log) });

const environment = { ...project, Environment: text("environment") };
const inherits = mapped(json("inherits"), renamed({ project: "Project", config: "Config" }));

/** Where values live: projects, environments, configs, and what was done to them. */
export const projectRoutes: readonly ConfigRoute[] = [
  route<{ Projects: ProjectOutput[] }>("GET /v3/projects", "ListProjects", {
    input: paging,
    answer: ({ Projects }, asked) => ({ page: pageOf(asked), projects: Projects.map(projectOf) }),
  }),
  route("POST /v3/projects", "CreateProject", {
    input: { Name: text("name"), Description: text("description") },
    answer: oneProject,
  }),
  route("GET /v3/projects/project", "GetProject", { input: project, answer: oneProject }),
  route("POST /v3/projects/project", "UpdateProject", {
    input: { ...project, Name: text("name"), Description: anyText("description") },
    answer: oneProject,
  }),
  route("DELETE /v3/projects/project", "DeleteProject", { input: project, answer: done }),

  route<{ Environments: EnvironmentOutput[] }>("GET /v3/environments", "ListEnvironments", {
    input: { ...project, ...paging },
    answer: ({ Environments }, asked) => ({ page: pageOf(asked), environments: Environments.map(environmentOf) }),
  }),
  route("POST /v3/environments", "CreateEnvironment", {
    input: { ...project, Name: text("name"), Slug: text("slug") },
    answer: oneEnvironment,
  }),
  route("GET /v3/environments/environment", "GetEnvironment", { input: environment, answer: oneEnvironment }),
  route("PUT /v3/environments/environment", "UpdateEnvironment", {
    input: { ...environment, Name: text("name"), Slug: text("slug") },
    answer: oneEnvironment,
  }),
  route("DELETE /v3/environments/environment", "DeleteEnvironment", { input: environment, answer: done }),

  route<{ Configs: ConfigOutput[] }>("GET /v3/configs", "ListConfigs", {
    input: { ...environment, ...paging },
    answer: ({ Configs }, asked) => ({ page: pageOf(asked), configs: Configs.map(configOf) }),
  }),
  route("POST /v3/configs", "CreateConfig", { input: { ...environment, Name: text("name") }, answer: oneConfig }),
  route("GET /v3/configs/config", "GetConfig", { input: config, answer: oneConfig }),
  route("POST /v3/configs/config", "UpdateConfig", { input: { ...config, Name: text("name") }, answer: oneConfig }),
  route("DELETE /v3/configs/config", "DeleteConfig", { input: config, answer: done }),
  route("POST /v3/configs/config/lock", "LockConfig", { input: config, answer: oneConfig }),
  route("POST /v3/configs/config/unlock", "UnlockConfig", { input: config, answer: oneConfig }),
  route("POST /v3/configs/config/clone", "CloneConfig", { input: { ...config, Name: text("name") }, answer: oneConfig }),
  route("POST /v3/configs/config/inheritable", "SetConfigInheritable", {
    input: { ...config, Inheritable: flag("inheritable") },
    answer: oneConfig,
  }),
  route("POST /v3/configs/config/inherits", "SetConfigInherits", { input: { ...config, Inherits: inherits }, answer: oneConfig }),
  route("GET /v3/configs/config/ping", "GetConfig", { input: config, answer: done }),

  route<{ Logs: LogOutput[] }>("GET /v3/configs/config/logs", "ListConfigLogs", {
    input: { ...config, ...paging },
    answer: ({ Logs }, asked) => ({ page: pageOf(asked), logs: Logs.map(configLogOf) }),
  }),
  route("GET /v3/configs/config/logs/log", "GetConfigLog", { input: { ...config, LogId: text("log") }, answer: oneLog }),
  route("POST /v3/configs/config/logs/log/rollback", "RollbackConfig", {
    input: { ...config, LogId: text("log") },
    answer: oneLog,
  }),

  route<{ Logs: LogOutput[] }>("GET /v3/logs", "ListActivityLogs", {
    input: paging,
    answer: ({ Logs }, asked) => ({ page: pageOf(asked), logs: Logs.map(activityOf) }),
  }),
  route<{ Log: LogOutput }>("GET /v3/logs/log", "GetActivityLog", {
    input: { LogId: text("log") },
    answer: ({ Log }) => ({ log: activityOf(Log) }),
  }),
  route<{ Projects: ProjectOutput[] }>("POST /v3/workplace/template/import", "ImportTemplate", {
    input: { Template: anyText("template") },
    answer: ({ Projects }) => ({ projects: Projects.map(projectOf) }),
  }),
];
