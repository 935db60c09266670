// The server behind the proxies: HTTP/1 and HTTP/2 (prior knowledge, extended CONNECT) on one port, each path one
// behaviour. Prints `PORT n` when it listens; arguments: the port (default: the kernel's choice), the address.
'use strict';
const crypto = require('crypto');
const http = require('http');
const http2 = require('http2');
const net = require('net');

/** Requests ended before their response, by the id they gave. */
const aborted = new Set();

const paths = {
  /** The body comes back as it comes in. */
  '/echo': (req, res) => {
    res.writeHead(200, { 'content-type': 'application/octet-stream', ...seen(req) });
    req.pipe(res);
  },
  /** `n` bytes, with a length when `known` is given. */
  '/bytes': (req, res, query) => {
    const body = pattern(Number(query.get('n')));
    const length = query.has('known') ? { 'content-length': body.length } : {};
    res.writeHead(200, { ...seen(req), ...length });
    if (!length['content-length'] && body.length > 1) res.write(body.subarray(0, 1));
    res.end(length['content-length'] || body.length <= 1 ? body : body.subarray(1));
  },
  /** Reads all, then tells what it was. */
  '/upload': (req, res) => {
    const hash = crypto.createHash('sha256');
    let bytes = 0;
    req.on('data', (part) => { bytes += part.length; hash.update(part); });
    req.on('end', () => json(res, {
      bytes, sha: hash.digest('hex'), trailers: req.trailers, headers: req.headers, method: req.method,
      url: req.url, version: req.httpVersion,
    }));
  },
  '/trailers': (req, res) => {
    res.writeHead(200, { trailer: 'x-sum, x-more', ...seen(req) });
    res.write('body');
    res.addTrailers({ 'x-sum': '42', 'x-more': 'a b' });
    res.end();
  },
  '/status': (req, res, query) => {
    res.writeHead(Number(query.get('code')), { etag: '"tag"', ...seen(req) });
    res.end();
  },
  '/cookies': (req, res) => {
    res.writeHead(200, { 'set-cookie': ['a=1; Path=/', 'b=2, with comma'], 'x-cookie': req.headers.cookie || '' });
    res.end();
  },
  /** The answer is there before the request is. */
  '/early': (req, res) => {
    res.writeHead(413, { 'content-length': 8 });
    res.end('too much');
    req.resume();
  },
  /** `total` bytes in pieces, as fast as the reader takes them. */
  '/stream': (req, res, query) => {
    let left = Number(query.get('total'));
    const piece = pattern(16384);
    res.writeHead(200, seen(req));
    const more = () => {
      while (left > 0) {
        const part = piece.subarray(0, Math.min(left, piece.length));
        left -= part.length;
        if (!res.write(part)) { res.once('drain', more); return; }
      }
      res.end();
    };
    more();
  },
  /** Each piece waits for the client's word, which is in the request's body: no one on the way may hold either back. */
  '/pingpong': (req, res) => {
    res.writeHead(200, seen(req));
    res.flushHeaders?.();
    req.on('data', (part) => res.write(`pong ${part}`));
    req.on('end', () => res.end());
  },
  /** Begins an answer that never ends; `/aborted` tells when the client went away. */
  '/hang': (req, res, query) => {
    res.on('close', () => aborted.add(query.get('id')));
    res.writeHead(200, seen(req));
    res.write('begun');
  },
  /** Never answers. */
  '/silent': (req, res, query) => { res.on('close', () => aborted.add(query.get('id'))); },
  '/aborted': (req, res, query) => json(res, { aborted: aborted.has(query.get('id')) }),
};

function seen(req) {
  return {
    'x-version': req.httpVersion, 'x-method': req.method, 'x-length': req.headers['content-length'] || 'none',
    'x-continued': req.continued ? '1' : '0', 'x-url': encodeURIComponent(req.url),
  };
}

/** Bytes that show a piece lost, doubled or moved. */
function pattern(n) {
  const bytes = Buffer.alloc(n);
  for (let i = 0; i < n; i++) bytes[i] = (i * 31 + (i >> 8) * 7) & 255;
  return bytes;
}

function json(res, value) {
  const text = JSON.stringify(value);
  res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  res.end(text);
}

function serve(req, res) {
  const url = new URL(req.url, 'http://origin');
  const path = paths[url.pathname];
  req.on('error', () => {});
  res.on('error', () => {});
  if (path) path(req, res, url.searchParams);
  else json(res, { method: req.method, url: req.url, version: req.httpVersion, headers: req.headers });
}

/** The client waits for our word before it sends its body. */
function continues(req, res) {
  if (req.url.startsWith('/refuse')) {
    res.writeHead(417, { 'content-length': 0 });
    res.end();
    return;
  }
  res.writeContinue();
  req.continued = true;
  serve(req, res);
}

const h1 = http.createServer({ keepAliveTimeout: 60_000 }, serve);
const h2 = http2.createServer({ settings: { enableConnectProtocol: true }, maxSessionMemory: 100 }, serve);
for (const server of [h1, h2]) {
  server.on('checkContinue', continues);
  server.on('sessionError', () => {});
}
h1.on('clientError', (_, socket) => socket.destroy());
// An upgrade by HTTP/1 and one by extended CONNECT: both are answered, and then echo bytes.
h1.on('upgrade', (req, socket, head) => {
  socket.on('error', () => {});
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${req.headers.upgrade}\r\n\r\n`);
  socket.write(head);
  socket.pipe(socket);
});
h2.on('connect', (req) => {
  req.stream.respond({ ':status': 200 });
  req.stream.pipe(req.stream);
});

const both = net.createServer((socket) => {
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.once('data', (first) => {
    socket.pause();
    socket.unshift(first);
    (first.subarray(0, 3).toString() === 'PRI' ? h2 : h1).emit('connection', socket);
    process.nextTick(() => socket.resume());
  });
});
both.listen(Number(process.argv[2] || 0), process.argv[3] || '127.0.0.1', () => console.log(`PORT ${both.address().port}`));
// Ends with the test that started it.
if (process.env.TETHERED) process.stdin.on('end', () => process.exit(0)).resume();
