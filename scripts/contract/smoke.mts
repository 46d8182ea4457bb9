// Uses the types that are generated from openapi.yaml.

import { strict as assert } from 'node:assert';
import createClient from 'openapi-fetch';
import type { components, paths } from './webhooks.d.ts';

const [api, token] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: api, headers: { Authorization: `Bearer ${token}` } });

const types = await client.GET('/api/webhooks/event-types');
assert.ok(types.data);
const names = types.data.items.map((item) => item.name as components['schemas']['EventTypeName']);

const created = await client.POST('/api/webhooks', {
  body: { url: `${api}/smoke`, event_types: [names[0], '*'], description: 'Smoke' },
});
assert.ok(created.data);
const { id, secret, retry_count } = created.data;
assert.ok(secret?.startsWith('whsec_') && retry_count === 3);

const params = { path: { id } };
const changed = await client.PATCH('/api/webhooks/{id}', { params, body: { is_active: false, description: null } });
assert.ok(changed.data && !changed.data.is_active && changed.data.description === null);
const test = await client.POST('/api/webhooks/{id}/test', { params });
assert.ok(test.data);
const page = await client.GET('/api/webhooks/{id}/deliveries', { params: { ...params, query: { limit: 10 } } });
assert.deepEqual(page.data?.items.map((item) => item.id), [test.data.delivery_id]);
const delivery = await client.GET('/api/webhooks/{id}/deliveries/{delivery_id}', {
  params: { path: { id, delivery_id: test.data.delivery_id } },
});
assert.equal(delivery.data?.attempts[0].number, 1);
assert.equal(delivery.data?.payload?.event_type, names[0]);
const refused = await client.GET('/api/webhooks/{id}/deliveries', { params: { ...params, query: { limit: 101 } } });
assert.equal((refused.error as components['schemas']['Problem']).errors?.[0].field, 'limit');
assert.equal((await client.DELETE('/api/webhooks/{id}', { params })).response.status, 204);
console.log('the TypeScript client works');
