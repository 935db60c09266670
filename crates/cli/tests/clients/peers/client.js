// Node's http and http2 clients against origin.js through each path of the plan given as the only argument:
// [{name, url, http2: true|false, origin: "1.1"|"2.0"}]. One line of JSON for each path and case: {path, name, why?}.
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const http = require('http');
const http2 = require('http2');

const MIB = 1024 * 1024;
const CASE_LIMIT_MS = 15_000;

/** One path's connections: pooled HTTP/1 ones, or one HTTP/2 session. */
class Client {
  constructor(path) {
    this.path = path;
    this.url = new URL(path.url);
    if (path.http2) {
      this.session = http2.connect(path.url);
      this.session.on('error', (error) => { this.failed = error; });
    } else {
      this.agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
    }
  }

  /** The open request: write to it, end it; `answer` holds what came, `answered` waits for the head. */
  begin(path, { method = 'GET', headers = {} } = {}) {
    const exchange = { informed: [], trailers: {} };
    exchange.answered = new Promise((resolve, reject) => {
      if (this.path.http2) this.#begin2(exchange, path, method, headers, resolve, reject);
      else this.#begin1(exchange, path, method, headers, resolve, reject);
    });
    exchange.answered.catch(() => {});
    return exchange;
  }

  #begin1(exchange, path, method, headers, resolve, reject) {
    const { hostname: host, port } = this.url;
    const request = http.request({ host, port, path, method, headers, agent: this.agent });
    exchange.request = request;
    exchange.cancel = () => request.destroy();
    exchange.addTrailers = (trailers) => request.addTrailers(trailers);
    request.on('continue', () => { exchange.continued = true; exchange.oncontinue?.(); });
    request.on('information', (info) => exchange.informed.push(info.statusCode));
    request.on('error', reject);
    request.on('response', (response) => {
      Object.assign(exchange, {
        response, status: response.statusCode, headers: response.headers, version: response.httpVersion,
      });
      response.on('end', () => { exchange.trailers = response.trailers; });
      resolve(exchange);
    });
  }

  #begin2(exchange, path, method, headers, resolve, reject) {
    const { trailer, ...others } = headers;
    const hasBody = !['GET', 'HEAD'].includes(method);
    const options = { endStream: !hasBody, waitForTrailers: trailer !== undefined };
    const sent = { ':method': method, ':path': path, ...others, ...(trailer ? { trailer } : {}) };
    const request = this.session.request(sent, options);
    exchange.request = request;
    exchange.cancel = () => request.close(http2.constants.NGHTTP2_CANCEL);
    exchange.addTrailers = (trailers) => { exchange.toSend = trailers; };
    request.on('wantTrailers', () => request.sendTrailers(exchange.toSend || {}));
    request.on('continue', () => { exchange.continued = true; exchange.oncontinue?.(); });
    request.on('error', reject);
    request.on('trailers', (trailers) => { exchange.trailers = trailers; });
    request.on('response', (received) => {
      Object.assign(exchange, {
        response: request, status: received[':status'], headers: received, version: '2.0',
      });
      resolve(exchange);
    });
  }

  /** A whole exchange. */
  async ask(path, { method = 'GET', headers = {}, body } = {}) {
    const exchange = this.begin(path, { method, headers });
    if (this.path.http2 && ['GET', 'HEAD'].includes(method)) assert.strictEqual(body, undefined);
    else exchange.request.end(body);
    await exchange.answered;
    exchange.body = await all(exchange.response);
    return exchange;
  }

  close() {
    this.session?.destroy();
    this.agent?.destroy();
  }
}

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

function pattern(n) {
  const bytes = Buffer.alloc(n);
  for (let i = 0; i < n; i++) bytes[i] = (i * 31 + (i >> 8) * 7) & 255;
  return bytes;
}

const sha = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');

function same(found, expected, what) {
  assert.strictEqual(found.length, expected.length, `${what}: length`);
  assert.ok(found.equals(expected), `${what}: other bytes`);
}

async function until(what, condition) {
  const deadline = Date.now() + 8000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const sent = (client, body) => ({ method: 'POST', headers: { 'content-length': body.length }, body });

const cases = {
  async 'empty bodies'(client) {
    const got = await client.ask('/bytes?n=0&known=1');
    assert.strictEqual(got.status, 200);
    assert.strictEqual(got.body.length, 0);
    assert.strictEqual(got.headers['content-length'], '0');
    assert.strictEqual((await client.ask('/bytes?n=0')).body.length, 0);
    const posted = await client.ask('/echo', sent(client, Buffer.alloc(0)));
    assert.strictEqual(posted.body.length, 0);
    assert.strictEqual(posted.headers['x-length'], '0');
  },
  async 'the version the origin sees'(client) {
    assert.strictEqual((await client.ask('/bytes?n=1')).headers['x-version'], client.path.origin);
  },
  async 'one byte both ways'(client) {
    const got = await client.ask('/echo', sent(client, Buffer.from('x')));
    assert.strictEqual(String(got.body), 'x');
    assert.strictEqual(got.headers['x-length'], '1');
    assert.strictEqual(got.headers['x-method'], 'POST');
  },
  async '1 MiB both ways, lengths known'(client) {
    const body = pattern(MIB);
    const got = await client.ask('/echo', sent(client, body));
    same(got.body, body, 'echo');
    assert.strictEqual(got.headers['x-length'], String(MIB));
    const down = await client.ask(`/bytes?n=${MIB}&known=1`);
    assert.strictEqual(down.headers['content-length'], String(MIB));
    same(down.body, body, 'bytes');
  },
  async '1 MiB both ways, lengths unknown'(client) {
    const body = pattern(MIB);
    const exchange = client.begin('/echo', { method: 'POST' });
    for (let at = 0; at < MIB; at += 50_000) exchange.request.write(body.subarray(at, at + 50_000));
    exchange.request.end();
    await exchange.answered;
    same(await all(exchange.response), body, 'echo');
    assert.strictEqual(exchange.headers['x-length'], 'none');
    const down = await client.ask(`/bytes?n=${MIB}`);
    assert.strictEqual(down.headers['content-length'], undefined);
    same(down.body, body, 'bytes');
  },
  async 'request trailers'(client) {
    const exchange = client.begin('/upload', { method: 'POST', headers: { trailer: 'x-check' } });
    exchange.request.write('some');
    exchange.addTrailers({ 'x-check': 'done 1' });
    exchange.request.end();
    await exchange.answered;
    const told = JSON.parse(await all(exchange.response));
    assert.strictEqual(told.bytes, 4);
    assert.strictEqual(told.trailers['x-check'], 'done 1');
  },
  async 'response trailers'(client) {
    // Without `TE: trailers` a server may leave them out; it does not here.
    const got = await client.ask('/trailers', { headers: { te: 'trailers' } });
    assert.strictEqual(String(got.body), 'body');
    assert.strictEqual(got.trailers['x-sum'], '42');
    assert.strictEqual(got.trailers['x-more'], 'a b');
  },
  async 'HEAD'(client) {
    const got = await client.ask('/bytes?n=1000&known=1', { method: 'HEAD' });
    assert.strictEqual(got.status, 200);
    assert.strictEqual(got.body.length, 0);
    assert.strictEqual(got.headers['content-length'], '1000');
    assert.strictEqual((await client.ask('/bytes?n=3')).body.length, 3, 'the next one is not shifted');
  },
  async '204 and 304 have no body'(client) {
    for (const code of [204, 304]) {
      const got = await client.ask(`/status?code=${code}`);
      assert.strictEqual(got.status, code);
      assert.strictEqual(got.body.length, 0);
      assert.strictEqual(got.headers['transfer-encoding'], undefined);
      assert.strictEqual(got.headers.etag, '"tag"');
    }
    assert.strictEqual((await client.ask('/bytes?n=3')).body.length, 3, 'the next one is not shifted');
  },
  async 'other methods'(client) {
    for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'REPORT']) {
      const got = await client.ask('/upload', { method, headers: { 'content-length': 1 }, body: 'b' });
      const told = JSON.parse(got.body);
      assert.deepStrictEqual([told.method, told.bytes], [method, 1]);
    }
  },
  async 'the target goes through untouched'(client) {
    for (const target of ['/x?a=b&c=%20%2F+d', '/a%2Fb/%C3%A9?', '/x;p=1?q=/../z', "/~!$&'()*,=:@"]) {
      assert.strictEqual(JSON.parse((await client.ask(target)).body).url, target);
    }
  },
  async 'cookies'(client) {
    const got = await client.ask('/cookies', { headers: { cookie: 'one=1; two=2; three=3' } });
    assert.deepStrictEqual(got.headers['set-cookie'], ['a=1; Path=/', 'b=2, with comma']);
    assert.strictEqual(got.headers['x-cookie'], 'one=1; two=2; three=3');
  },
  async 'long and odd header values'(client) {
    const long = 'v'.repeat(16_000);
    const headers = { 'x-long': long, 'x-empty': '', x_under: 'u' };
    const told = JSON.parse((await client.ask('/upload', { headers })).body);
    assert.strictEqual(told.headers['x-long'], long);
    assert.strictEqual(told.headers['x-empty'], '');
    assert.strictEqual(told.headers.x_under, 'u');
  },
  async '100-continue'(client) {
    const headers = { expect: '100-continue', 'content-length': 4 };
    const exchange = client.begin('/echo', { method: 'POST', headers });
    exchange.request.flushHeaders?.();
    await Promise.race([new Promise((resolve) => { exchange.oncontinue = resolve; }), exchange.answered]);
    assert.ok(exchange.continued, 'told to go on before the answer');
    exchange.request.end('body');
    await exchange.answered;
    assert.strictEqual(String(await all(exchange.response)), 'body');
    assert.strictEqual(exchange.headers['x-continued'], '1', 'the origin was asked');
  },
  async '100-continue refused'(client) {
    const headers = { expect: '100-continue', 'content-length': 4 };
    const exchange = client.begin('/refuse', { method: 'POST', headers });
    exchange.request.flushHeaders?.();
    await exchange.answered;
    assert.strictEqual(exchange.status, 417);
    assert.ok(!exchange.continued);
    exchange.cancel();
  },
  async 'an early answer while the request is being sent'(client) {
    const exchange = client.begin('/early', { method: 'POST', headers: { 'content-length': 64 * MIB } });
    exchange.request.on('error', () => {});
    exchange.request.write(pattern(65_536));
    await exchange.answered;
    assert.strictEqual(exchange.status, 413);
    assert.strictEqual(String(await all(exchange.response)), 'too much');
    exchange.cancel();
    assert.strictEqual((await client.ask('/bytes?n=3')).body.length, 3, 'others are served');
  },
  async 'an answer grows with its request'(client) {
    const exchange = client.begin('/pingpong', { method: 'POST' });
    exchange.request.write('0');
    await exchange.answered;
    let heard = '';
    let wake = () => {};
    exchange.response.on('data', (part) => { heard += part; wake(); });
    const ended = new Promise((resolve) => exchange.response.on('end', resolve));
    for (let round = 1; round < 20; round++) {
      while (!heard.endsWith(`pong ${round - 1}`)) await new Promise((resolve) => { wake = resolve; });
      exchange.request.write(String(round));
    }
    exchange.request.end();
    await ended;
    assert.ok(heard.endsWith('pong 19'), heard);
  },
  async 'a slow reader gets every byte'(client) {
    const total = 4 * MIB;
    const exchange = client.begin(`/stream?total=${total}`);
    if (!client.path.http2) exchange.request.end();
    await exchange.answered;
    const hash = crypto.createHash('sha256');
    let bytes = 0;
    let pauseAt = 0;
    for await (const part of exchange.response) {
      bytes += part.length;
      hash.update(part);
      if (bytes >= pauseAt) {
        pauseAt += 256 * 1024;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    assert.strictEqual(bytes, total);
    const piece = pattern(16384);
    assert.strictEqual(hash.digest('hex'), sha(Buffer.concat(Array(total / 16384).fill(piece))));
  },
  async 'a client that goes away is noticed by the origin'(client) {
    for (const kind of ['hang', 'silent']) {
      const id = `${client.path.name} ${kind}`;
      const exchange = client.begin(`/${kind}?id=${encodeURIComponent(id)}`);
      exchange.request.on('error', () => {});
      if (!client.path.http2) exchange.request.end();
      if (kind === 'hang') {
        await exchange.answered;
        exchange.response.on('error', () => {});
        await new Promise((resolve) => exchange.response.once('data', resolve));
      } else {
        // The request is on its way once another, sent after it, was answered.
        await client.ask('/bytes?n=1');
      }
      exchange.cancel();
      const asked = `/aborted?id=${encodeURIComponent(id)}`;
      await until(`${kind} ended at the origin`, async () => JSON.parse((await client.ask(asked)).body).aborted);
    }
  },
  async '64 at once'(client) {
    const one = async (i) => {
      const body = pattern(1000 + i);
      same((await client.ask('/echo', sent(client, body))).body, body, `request ${i}`);
    };
    await Promise.all(Array.from({ length: 64 }, (_, i) => one(i)));
  },
};

async function run(path, name, test) {
  const client = new Client(path);
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no end in time')), CASE_LIMIT_MS);
  });
  const found = { path: path.name, name };
  try {
    await Promise.race([test(client), late]);
  } catch (error) {
    found.why = String(error.message || error) + (client.failed ? ` (session: ${client.failed.message})` : '');
  }
  clearTimeout(timer);
  client.close();
  console.log(JSON.stringify(found));
}

process.on('unhandledRejection', () => {});
process.on('uncaughtException', (error) => console.log(JSON.stringify({ path: 'client', name: 'uncaught', why: error.stack })));
(async () => {
  for (const path of JSON.parse(process.argv[2])) {
    // A case of one path beside the others of it: its own connections, so that none blocks another.
    const list = Object.entries(cases).filter(([name]) => !(path.without || []).includes(name));
    await Promise.all(list.map(([name, test]) => run(path, name, test)));
  }
})();
