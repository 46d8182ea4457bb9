/** The JSON of the API, as the console reads it. */

export interface Health {
  breaker: 'closed' | 'open' | 'half_open';
  open_until: string | null;
  consecutive_failures: number;
  failing_since: string | null;
  last_error: string | null;
}

export interface Totals {
  total_deliveries: number;
  successful_deliveries: number;
  failed_deliveries: number;
  retrying_deliveries: number;
  held_deliveries: number;
  success_rate: number | null;
  last_delivery_at: string | null;
}

export type RetrySchedule = 'exponential' | 'standard' | number[];

export interface Webhook {
  id: string;
  url: string;
  event_types: string[];
  filter: unknown;
  description: string | null;
  is_active: boolean;
  disabled_reason: string | null;
  retry_count: number | null;
  retry_schedule: RetrySchedule;
  timeout_seconds: number;
  headers?: Record<string, string | null>;
  rate_limit?: number | null;
  signature?: 'hmac' | 'ed25519';
  public_key?: string | null;
  while_inactive?: 'drop' | 'hold';
  auto_recover?: boolean;
  keep_payload?: 'retention' | 'until_success';
  created_at: string;
  updated_at: string;
  health: Health;
  signing_secrets: { expires_at: string | null }[];
  statistics?: Totals;
  /** Shown once, in the response to the request that made it. */
  secret?: string;
}

export interface Attempt {
  number: number;
  started_at: string;
  duration_ms: number;
  response_status: number | null;
  failure?: string | null;
  error: string | null;
  advice?: string | null;
  request_headers?: Record<string, string> | [string, string][] | null;
  response_headers?: Record<string, string> | [string, string][] | null;
  response_excerpt: string | null;
}

export type DeliveryStatus = 'success' | 'failed' | 'retrying' | 'held';

export interface Delivery {
  id: string;
  webhook_id: string;
  event_id: string;
  event_type: string;
  status: DeliveryStatus;
  trigger: string;
  attempt_count: number;
  response_status: number | null;
  error: string | null;
  duration_ms: number | null;
  created_at: string;
  updated_at: string;
  next_retry_at: string | null;
  waiting_for: string | null;
  redelivery_of: string | null;
  attempts?: Attempt[];
  payload?: unknown;
}

export interface Bucket {
  start: string;
  total: number;
  success: number;
  failed: number;
  attempts: number;
  latency_ms: { p50: number | null; p90: number | null; p99: number | null };
}

export interface Recovery {
  id: string;
  status: 'running' | 'done' | 'cancelled';
  /** Whether the service began it. */
  automatic: boolean;
  /** Equal to `sent`: every page that is found is sent. */
  matched: number;
  sent: number;
  /** Absent in the list. */
  succeeded?: number;
  failed?: number;
  created_at: string;
}

export interface EventType {
  name: string;
  category: string;
  description: string;
  schema?: unknown;
  example?: unknown;
}

export interface TestResult {
  success: boolean;
  status_code: number | null;
  duration_ms: number;
  error: string | null;
  delivery_id: string;
  matched: boolean;
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export interface FieldError {
  field: string;
  message: string;
}

export interface Config {
  /** The base URL of the API; empty for the origin of the page. */
  api_url: string;
  /** Where the local system gives a token; null when users sign in. */
  token_url: string | null;
  /** The OpenID Connect issuer; null when the local system gives the token. */
  issuer: string | null;
  client_id: string | null;
  scope: string | null;
  /** Whether http URLs are allowed. */
  development: boolean;
}
