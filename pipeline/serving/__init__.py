"""A checkpoint behind the OpenAI protocol, run by precept's own transformers engine: what `precept model serve` starts.

`model.py` continues token ids and reads their log-probabilities, `waiting.py` puts together the requests that wait,
`bodies.py` checks what a request asks, `answers.py` writes what it is told, `app.py` is the web application. No tools,
no images, no adapters by request, no continuous batching: what comes while a batch is generated waits for its end.
"""
