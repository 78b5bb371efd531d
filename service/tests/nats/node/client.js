// Another service, as it would be written in Node: publishes orders by JetStream, and hears by durable
// consumers how they end. It prints what it heard, a line of JSON each, and ends once it has all.
//
// node client.js SERVER STREAM ORDERS EXPIRES_AT SUBJECT…
'use strict';

const { AckPolicy, JSONCodec, connect } = require('nats');

const json = JSONCodec();

async function publish(js, orders, expiresAt) {
    for (let n = 0; n < orders; n += 1) {
        const order = {
            id: `o${n}`,
            version: 0,
            status: 'created',
            userId: 'u1',
            expiresAt,
            ticket: { id: `t${n}`, price: 20 },
        };
        await js.publish('order:created', json.encode(order), { msgID: order.id });
    }
}

// One message for each order.
async function hear(nc, stream, subject, orders) {
    const durable = `node-${subject.replace(':', '-')}`;
    const jsm = await nc.jetstreamManager();
    await jsm.consumers.add(stream, {
        durable_name: durable,
        filter_subject: subject,
        ack_policy: AckPolicy.Explicit,
    });
    const consumer = await nc.jetstream().consumers.get(stream, durable);
    let heard = 0;
    for await (const message of await consumer.consume()) {
        console.log(JSON.stringify({ subject, data: json.decode(message.data) }));
        await message.ackAck();
        heard += 1;
        if (heard === orders) {
            break;
        }
    }
}

async function main([server, stream, count, expiresAt, ...subjects]) {
    const orders = Number(count);
    const nc = await connect({ servers: server, name: 'a service in Node' });
    const heard = subjects.map((subject) => hear(nc, stream, subject, orders));
    await publish(nc.jetstream(), orders, expiresAt);
    await Promise.all(heard);
    await nc.close();
}

main(process.argv.slice(2)).catch((error) => {
    console.error(error);
    process.exit(1);
});
