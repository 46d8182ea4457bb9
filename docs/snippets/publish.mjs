import { randomUUID } from 'node:crypto';
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs';

const sqs = new SQSClient({});

// Publishes one event and returns its id. `traceparent` places it in a trace (W3C).
export async function publish(queueUrl, eventType, userId, data, traceparent) {
  const event = {
    event_type: eventType,
    user_id: userId,
    event_id: `evt_${randomUUID()}`,
    occurred_at: new Date().toISOString(),
    data,
  };
  await sqs.send(
    new SendMessageCommand({
      QueueUrl: queueUrl,
      MessageGroupId: userId,
      MessageBody: JSON.stringify(event),
      MessageAttributes: traceparent && { traceparent: { DataType: 'String', StringValue: traceparent } },
    }),
  );
  return event.event_id;
}
