import { randomUUID } from 'node:crypto';
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs';

const sqs = new SQSClient({});

// Publishes one event and returns its id.
export async function publish(queueUrl, eventType, userId, data) {
  const event = {
    event_type: eventType,
    user_id: userId,
    event_id: `evt_${randomUUID()}`,
    occurred_at: new Date().toISOString(),
    data,
  };
  await sqs.send(
    new SendMessageCommand({ QueueUrl: queueUrl, MessageGroupId: userId, MessageBody: JSON.stringify(event) }),
  );
  return event.event_id;
}
