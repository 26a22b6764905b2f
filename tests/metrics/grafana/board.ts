/** The type of the dashboard that ships, from the types that Grafana publishes. */

import type { Dataquery } from "@grafana/grafana-foundation-sdk/prometheus";
import type * as grafana from "@grafana/schema";
import type { Options as BarGauge } from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { Options as TimeSeries } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type * as raw from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";

/** A type in JSON, where enums are their values. */
type Json<T> = 0 extends 1 & T
  ? T
  : T extends string
    ? `${T}`
    : T extends number
      ? `${T}` extends `${infer N extends number}` ? N : T
      : T extends (infer Item)[]
        ? Json<Item>[]
        : T extends object
          ? { [Key in keyof T]: Json<T[Key]> }
          : T;

type Changed<T, U> = Omit<T, keyof U> & U;

type Query = Changed<Omit<Dataquery, "_implementsDataqueryVariant">, { datasource: grafana.DataSourceRef }>;

type PanelOf<Type extends string, Options, Custom> = Changed<
  raw.Panel,
  {
    type: Type;
    options: Partial<Options>;
    targets: Query[];
    fieldConfig: Changed<
      raw.FieldConfigSource,
      { defaults: Changed<raw.FieldConfig, { custom?: Custom }> }
    >;
  }
>;

type Panel =
  | PanelOf<"stat", Stat, never>
  | PanelOf<"bargauge", BarGauge, never>
  | PanelOf<"timeseries", TimeSeries, grafana.GraphFieldConfig>
  | raw.RowPanel;

type Variable = Changed<raw.VariableModel, { datasource?: grafana.DataSourceRef }>;

export type Board = Json<Changed<raw.Dashboard, { panels: Panel[]; templating: { list: Variable[] } }>>;
