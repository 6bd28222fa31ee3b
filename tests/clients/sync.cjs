// WaveSpeed's JavaScript SDK, unchanged, with less patience than its default of ten seconds: it gives up on a held
// request and sends it again. Arguments: base URL, key, model, inputs as JSON. Prints what becomes of it.
const { Client } = require("wavespeed");

const [baseUrl, key, model, inputs] = process.argv.slice(2);
const client = new Client(key, { baseUrl, connectionTimeout: 1, maxConnectionRetries: 2, retryInterval: 0.1 });
client.run(model, JSON.parse(inputs), { enableSyncMode: true }).then(
  (found) => console.log(JSON.stringify(found)),
  (error) => console.log(JSON.stringify({ error: String(error.message) })),
);
