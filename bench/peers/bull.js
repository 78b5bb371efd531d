// One round of Bull: `node bull.js URL (add|drain) COUNT` prints how many seconds it took. Jobs as our
// timers: ids of 24 characters, no data, removed when done. NODE_PATH says where Bull is.
const Queue = require('bull');

const [url, what, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const BULK = 500;
const CONCURRENCY = 200;
const queue = new Queue('bench', url);

// All are due at the same time: `delay` after this is called.
async function add(delay) {
  const timestamp = Date.now();
  const begun = process.hrtime.bigint();
  for (let first = 0; first < count; first += BULK) {
    const jobs = [];
    for (let n = first; n < Math.min(count, first + BULK); n += 1) {
      const jobId = n.toString(16).padStart(24, '0');
      jobs.push({ name: 'expire', data: {}, opts: { jobId, timestamp, delay, removeOnComplete: true } });
    }
    await queue.addBulk(jobs);
  }
  return process.hrtime.bigint() - begun;
}

function drain() {
  const begun = process.hrtime.bigint();
  return new Promise((resolve) => {
    let done = 0;
    queue.process('expire', CONCURRENCY, async () => {
      done += 1;
      if (done === count) resolve(process.hrtime.bigint() - begun);
    });
  });
}

(async () => {
  const took = what === 'add' ? await add(86400e3) : (await add(1), await drain());
  console.log(Number(took) / 1e9);
  process.exit(0);
})();
