'use strict';

const express = require('express');
const { verifyStandard } = require('./verify.js');

const app = express();
const secret = process.env.WEBHOOK_SECRET;
const done = new Set(); // In production: a table with webhook-id as its key.

// `type: () => true` keeps the raw bytes whatever the Content-Type of the request is.
app.post('/webhook', express.raw({ type: () => true, limit: '2mb' }), (req, res) => {
  if (!verifyStandard(secret, req.headers, req.body)) {
    return res.status(401).send('invalid signature');
  }
  if (!done.has(req.headers['webhook-id'])) {
    const event = JSON.parse(req.body);
    console.log(event.event_type, event.data); // In production: put it on a queue.
    done.add(req.headers['webhook-id']);
  }
  res.status(204).end();
});

app.listen(process.env.PORT ?? 8080, '127.0.0.1');
