import os
import time

from julep import Julep

client = Julep(base_url="http://127.0.0.1:8795/api", api_key=os.environ["EVERSTEP_API_KEY"])

agent = client.agents.create(name="Ada", instructions="Be short.")
task = client.tasks.create(
    agent.id,
    name="greet",
    main=[{"prompt": "$ f'Greet {_.name}'", "unwrap": True}],
)
execution = client.executions.create(task.id, input={"name": "Grace"})
while execution.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.2)
    execution = client.executions.get(execution.id)
print(execution.output)

session = client.sessions.create(agent=agent.id)
answer = client.sessions.chat(session.id, messages=[{"role": "user", "content": "hello"}])
print(answer.choices[0].message.content)
print([m.id for m in client.agents.list_models().models])
d=client.agents.docs.create(agent_id=agent.id, title="Hours", content=["We open at nine.","Parking costs two euros."])
time.sleep(5)
v=client.docs.embed(text="when can I come in?").vectors[0] if hasattr(client,'docs') else None
r=client.agents.docs.search(agent_id=agent.id, vector=v, limit=2, confidence=0.0)
print([(x.title, x.snippet.content, x.distance) for x in r.docs])
r=client.agents.docs.search(agent_id=agent.id, text="when can I come in?", vector=v, alpha=.7, limit=2, confidence=0.1)
print([(x.title, x.snippet.content, x.distance) for x in r.docs])
