"""Uses the Python client that is generated from openapi.yaml."""

import sys

from webhooks_client import AuthenticatedClient
from webhooks_client.api.catalogue import list_event_types
from webhooks_client.api.deliveries import get_delivery, list_deliveries
from webhooks_client.api.webhooks import create_webhook, delete_webhook, get_webhook, test_webhook, update_webhook
from webhooks_client.models import (
    DeliveryDetail,
    DeliveryPage,
    EventTypeList,
    EventTypeName,
    EventTypeWildcard,
    ListEventTypesInclude,
    NewWebhook,
    Problem,
    TestResult,
    Webhook,
    WebhookPatch,
    WebhookWithSecret,
    WebhookWithStatistics,
)


def main(api, token):
    client = AuthenticatedClient(base_url=api, token=token)

    def call(expected, operation, *path, **options):
        parsed = operation.sync(*path, client=client, **options)
        assert isinstance(parsed, expected), parsed
        return parsed

    types = call(EventTypeList, list_event_types, include=ListEventTypesInclude.OPERATIONAL)
    names = [item.name for item in types.items]
    assert sorted(names) == sorted(name.value for name in EventTypeName), names

    new = NewWebhook(
        url=f"{api}/smoke", event_types=[EventTypeName(names[0]), EventTypeWildcard("*")], description="Smoke"
    )
    webhook = call(WebhookWithSecret, create_webhook, body=new)
    assert webhook.secret.startswith("whsec_") and webhook.retry_count == 3, webhook
    changed = call(Webhook, update_webhook, webhook.id, body=WebhookPatch(is_active=False, description=None))
    assert not changed.is_active and changed.description is None, changed
    result = call(TestResult, test_webhook, webhook.id)
    page = call(DeliveryPage, list_deliveries, webhook.id, limit=10)
    assert [item.id for item in page.items] == [result.delivery_id] and page.next_cursor is None, page
    delivery = call(DeliveryDetail, get_delivery, webhook.id, result.delivery_id)
    assert delivery.attempts[0].number == 1 and delivery.payload.event_type == names[0], delivery
    assert call(WebhookWithStatistics, get_webhook, webhook.id).statistics.total_deliveries == 1
    refused = call(Problem, list_deliveries, webhook.id, limit=101)
    assert refused.status == 422 and refused.errors[0].field == "limit", refused
    assert delete_webhook.sync_detailed(webhook.id, client=client).status_code == 204
    print("the Python client works")


main(*sys.argv[1:])
