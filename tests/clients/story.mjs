// Asks a gateway by the stock OpenAI client, and prints what it was told as JSON.
import OpenAI from 'openai';
const client = new OpenAI({ baseURL: process.env.SERVER + '/v1', apiKey: process.env.SECRET, maxRetries: 0 });
const told = {};
told.models = (await client.models.list()).data.map((model) => model.id);
const ask = { model: 'acme/routing', messages: [{ role: 'user', content: 'I lost my card' }], user: 'ada' };
const { data, response } = await client.chat.completions.create(ask).withResponse();
told.label = data.choices[0].message.content;
told.headers = ['x-tailorbird-release', 'x-tailorbird-arm', 'x-tailorbird-request-id', 'x-tailorbird-overhead-ms'].map((name) => response.headers.get(name));
told.probabilities = data.tailorbird.probabilities;
let text = '', usage = null;
const stream = await client.chat.completions.create({ model: 'acme/writer', messages: [{ role: 'user', content: 'one two three' }], stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) { text += chunk.choices[0]?.delta?.content ?? ''; usage = chunk.usage ?? usage; }
told.text = text; told.usage = usage;
told.errors = {};
const wrong = async (name, make) => { try { await make(); } catch (error) { told.errors[name] = [error.constructor.name, error.status, error.code]; } };
await wrong('unknown', () => client.chat.completions.create({ ...ask, model: 'acme/nothing' }));
await wrong('parameter', () => client.chat.completions.create({ ...ask, max_tokens: -1 }));
await wrong('key', () => new OpenAI({ baseURL: process.env.SERVER + '/v1', apiKey: 'tb_no', maxRetries: 0 }).models.list());
console.log(JSON.stringify(told));
