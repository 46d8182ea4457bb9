import os

from flask import Flask, request

from verify import verify_standard

app = Flask(__name__)
SECRET = os.environ["WEBHOOK_SECRET"]
done = set()  # In production: a table with webhook-id as its key.


@app.post("/webhook")
def webhook():
    if not verify_standard(SECRET, request.headers, request.get_data()):
        return "invalid signature", 401
    if request.headers["webhook-id"] not in done:
        event = request.get_json(force=True)
        print(event["event_type"], event["data"], flush=True)  # In production: put it on a queue.
        done.add(request.headers["webhook-id"])
    return "", 204
